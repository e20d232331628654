/* exp, logistic function and tanh of one number of type REAL, written so that the compiler can do many at once.

   Included once for every number type: REAL is the type, NAME(x) gives its functions their names. */

#include <stdint.h>

/* exp without branches, so that the compiler can do many at once: 2^n times a polynomial. */
static inline REAL NAME(exponential)(REAL x) {
  const int is_float = sizeof(REAL) == 4;
  const REAL low = is_float ? -87 : -708, high = is_float ? 88 : 709;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const REAL n = is_float ? (REAL)__builtin_rintf((float)(x * (REAL)1.44269504088896341))
                          : (REAL)__builtin_rint((double)(x * (REAL)1.44269504088896341));
  const REAL r = is_float ? (x - n * (REAL)0.693359375) + n * (REAL)2.12194440054690583e-4
                          : (x - n * (REAL)6.93147180369123816490e-01) - n * (REAL)1.90821492927058770002e-10;
  REAL p;
  if (is_float) {
    p = (REAL)1.9875691500e-4;
    p = p * r + (REAL)1.3981999507e-3;
    p = p * r + (REAL)8.3334519073e-3;
    p = p * r + (REAL)4.1665795894e-2;
    p = p * r + (REAL)1.6666665459e-1;
    p = p * r + (REAL)5.0000001201e-1;
    p = p * r * r + r + 1;
  } else {
    p = 1;
    for (int i = 14; i > 0; --i) p = p * r / i + 1;
  }
  union { REAL value; int32_t small; int64_t large; } power;
  if (is_float) power.small = ((int32_t)n + 127) << 23;
  else power.large = ((int64_t)n + 1023) << 52;
  return p * power.value;
}

static inline REAL NAME(logistic)(REAL x) { return 1 / (1 + NAME(exponential)(-x)); }

static inline REAL NAME(tangent)(REAL x) {
  /* Near zero 1 - 2/(e+1) would cancel. */
  const REAL square = x * x;
  const REAL near = sizeof(REAL) == 4
    ? x + x * square * (((((REAL)-5.70498872745e-3 * square + (REAL)2.06390887954e-2) * square
        + (REAL)-5.37397155531e-2) * square + (REAL)1.33314422036e-1) * square + (REAL)-3.33332819422e-1)
    : x;
  const REAL far = 1 - 2 / (NAME(exponential)(2 * x) + 1);
  const REAL size = x < 0 ? -x : x;
  return sizeof(REAL) == 4 && size < (REAL)0.625 ? near : far;
}
