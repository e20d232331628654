/* The gate tanh(first half) · sigmoid(second half) and its gradient, one reading of the numbers each.

   Included twice, for float and for double (REAL). */

#ifndef REAL

#include <stdint.h>

typedef int64_t i64;

#define REAL float
#define NAME(x) x##_float
#include "gate.c"
#undef REAL
#undef NAME
#define REAL double
#define NAME(x) x##_double
#include "gate.c"

#else

#include "elementary.h"

/* x [rows][2 d] → y [rows][d] */
void NAME(gate)(const REAL *x, REAL *y, i64 rows, i64 d, int threads) {
  (void)threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && rows * d > 16384)
#endif
  for (i64 i = 0; i < rows; ++i) {
    const REAL *content = x + 2 * d * i, *opening = content + d;
    REAL *out = y + d * i;
    for (i64 j = 0; j < d; ++j) out[j] = NAME(tangent)(content[j]) * NAME(logistic)(opening[j]);
  }
}

/* The gradient for x, contiguous, from the gradient for y: line l = (i, j) of `columns` rows begins at
   grad + i * step_1 + j * step_2, j below `lines`, and its rows lie step_3 apart. */
void NAME(gate_back)(const REAL *x, const REAL *grad, REAL *result, i64 all_lines, i64 lines, i64 columns, i64 d,
                     i64 step_1, i64 step_2, i64 step_3, int threads) {
  (void)threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && all_lines * columns * d > 16384)
#endif
  for (i64 l = 0; l < all_lines; ++l)
    for (i64 i = 0; i < columns; ++i) {
      const i64 at = 2 * d * (l * columns + i);
      const REAL *content = x + at, *opening = content + d;
      const REAL *onto = grad + l / lines * step_1 + l % lines * step_2 + i * step_3;
      REAL *of_content = result + at, *of_opening = of_content + d;
      for (i64 j = 0; j < d; ++j) {
        const REAL t = NAME(tangent)(content[j]), s = NAME(logistic)(opening[j]), part = onto[j] * s;
        of_content[j] = part * (1 - t * t);
        of_opening[j] = part * t * (1 - s);
      }
    }
}

#endif
