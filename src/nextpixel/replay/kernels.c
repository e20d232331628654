/* Replays a recorded pixel step: a list of small operations on [n, m] arrays whose samples do not touch each other.

   Included twice, for float and for double (REAL). An operation has 21 integers:
   kind, m (columns), k (inner size), constant 1 and 2 (bits of a double), then four operands (out, a, b, c) of
   {role, block, offset, stride}. An operand's sample i lies at
   base[role] + block * n + offset + i * stride, a negative stride standing for the role's own. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;
enum { COPY, TANH, SIGMOID, RELU, ELU, NEGATE, ADD, MULTIPLY, SUBTRACT, CLAMP, SCALE, PICK, PRODUCT };
enum { WIDTH = 21, BLOCK = 16 };

#define REAL float
#define NAME(x) x##_float
#define LANES (VECTOR_BYTES / 4)
#include "kernels.c"
#undef REAL
#undef NAME
#undef LANES
#define REAL double
#define NAME(x) x##_double
#define LANES (VECTOR_BYTES / 8)
#include "kernels.c"

#else

typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

#include "elementary.h"

/* out[i][0..m) = c[i] + a[i][0..k) · b[k][m] for `rows` samples: ROWS × COLUMNS vectors stay in registers. */
#define TILE(ROWS, VECTORS)                                                                              \
  {                                                                                                      \
    NAME(vec) sum[ROWS][VECTORS];                                                                        \
    for (int r = 0; r < ROWS; ++r)                                                                       \
      for (int v = 0; v < VECTORS; ++v) sum[r][v] = *(const NAME(vec) *)(c + (i + r) * cs + j + v * LANES); \
    for (i64 q = 0; q < k; ++q) {                                                                        \
      const REAL *w = b + q * m + j;                                                                     \
      for (int r = 0; r < ROWS; ++r) {                                                                   \
        const REAL x = a[(i + r) * as + q];                                                              \
        for (int v = 0; v < VECTORS; ++v) sum[r][v] += x * *(const NAME(vec) *)(w + v * LANES);          \
      }                                                                                                  \
    }                                                                                                    \
    for (int r = 0; r < ROWS; ++r)                                                                       \
      for (int v = 0; v < VECTORS; ++v) *(NAME(vec) *)(out + (i + r) * os + j + v * LANES) = sum[r][v];  \
  }

static void NAME(product)(i64 n, i64 m, i64 k, REAL *out, i64 os, const REAL *a, i64 as, const REAL *b,
                          const REAL *c, i64 cs) {
  i64 j = 0;
  if (n == 1) {
    const i64 i = 0;
    for (; j + 8 * LANES <= m; j += 8 * LANES) TILE(1, 8)
    for (; j + 4 * LANES <= m; j += 4 * LANES) TILE(1, 4)
  }
  for (; j + 2 * LANES <= m; j += 2 * LANES) {
    i64 i = 0;
    for (; i + ROWS_AT_ONCE <= n; i += ROWS_AT_ONCE) TILE(ROWS_AT_ONCE, 2)
    for (; i + 4 <= n; i += 4) TILE(4, 2)
    for (; i + 2 <= n; i += 2) TILE(2, 2)
    for (; i < n; ++i) TILE(1, 2)
  }
  for (; j + LANES <= m; j += LANES) {
    i64 i = 0;
    for (; i + ROWS_AT_ONCE <= n; i += ROWS_AT_ONCE) TILE(ROWS_AT_ONCE, 1)
    for (; i + 4 <= n; i += 4) TILE(4, 1)
    for (; i + 2 <= n; i += 2) TILE(2, 1)
    for (; i < n; ++i) TILE(1, 1)
  }
  for (; j < m; ++j)
    for (i64 i = 0; i < n; ++i) {
      REAL sum = c[i * cs + j];
      for (i64 q = 0; q < k; ++q) sum += a[i * as + q] * b[q * m + j];
      out[i * os + j] = sum;
    }
}

#define EACH(EXPRESSION)                                \
  for (i64 i = 0; i < n; ++i) {                         \
    REAL *restrict o = out + i * os;                    \
    const REAL *x = a + i * as, *y = b + i * bs;        \
    (void)y;                                            \
    for (i64 j = 0; j < m; ++j) o[j] = EXPRESSION;      \
  }                                                     \
  break;

static void NAME(steps)(const i64 *ops, i64 count, char *const *bases, const i64 *strides, i64 all,
                        i64 first, i64 n) {
  for (i64 t = 0; t < count; ++t, ops += WIDTH) {
    const i64 m = ops[1], k = ops[2];
    double constants[2];
    memcpy(constants, ops + 3, sizeof constants);
    REAL *at[4];
    i64 step[4];
    for (int p = 0; p < 4; ++p) {
      const i64 *operand = ops + 5 + 4 * p;
      const i64 role = operand[0];
      if (role < 0) {
        at[p] = 0, step[p] = 0;
        continue;
      }
      step[p] = operand[3] < 0 ? strides[role] : operand[3];
      at[p] = (REAL *)bases[role] + operand[1] * all + operand[2] + first * step[p];
    }
    REAL *out = at[0];
    const REAL *a = at[1], *b = at[2], *c = at[3];
    const i64 os = step[0], as = step[1], bs = step[2], cs = step[3];
    const REAL p = (REAL)constants[0], q = (REAL)constants[1];
    switch (ops[0]) {
      case COPY:
        for (i64 i = 0; i < n; ++i) memmove(out + i * os, a + i * as, m * sizeof(REAL));
        break;
      case TANH: EACH(NAME(tangent)(x[j]))
      case SIGMOID: EACH(NAME(logistic)(x[j]))
      case RELU: EACH(x[j] < 0 ? 0 : x[j]) /* what is no number stays none */
      case ELU: EACH(x[j] > 0 ? x[j] : NAME(exponential)(x[j]) - 1)
      case NEGATE: EACH(-x[j])
      case ADD: EACH(x[j] + y[j])
      case MULTIPLY: EACH(x[j] * y[j])
      case SUBTRACT: EACH(x[j] - y[j])
      case CLAMP: EACH(x[j] < p ? p : x[j] > q ? q : x[j])
      case SCALE: EACH(x[j] * p + q)
      case PICK: {
        const i64 *chosen = (const i64 *)b;
        for (i64 i = 0; i < n; ++i)
          for (i64 j = 0; j < m; ++j) out[i * os + j] = a[i * as + chosen[j]];
        break;
      }
      case PRODUCT: NAME(product)(n, m, k, out, os, a, as, b, c, cs); break;
    }
  }
}

/* Samples are independent: a block of them goes through all operations while its numbers are in the cache. */
void NAME(replay)(const i64 *ops, i64 count, const i64 *bases, const i64 *steps, const i64 *depths, const i64 *strides,
                  i64 roles, i64 column, i64 n, i64 threads) {
  char *here[roles];
  for (i64 r = 0; r < roles; ++r) here[r] = (char *)(bases[r] + (column >> depths[r]) * steps[r]);
  i64 size = BLOCK; /* smaller, in whole tiles, if there are too few samples for all threads */
  while (size > ROWS_AT_ONCE && size / 2 % ROWS_AT_ONCE == 0 && n < size * threads) size /= 2;
  const i64 blocks = (n + size - 1) / size;
  (void)threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && blocks > 1)
#endif
  for (i64 b = 0; b < blocks; ++b)
    NAME(steps)(ops, count, here, strides, n, b * size, n - b * size < size ? n - b * size : size);
}

#endif
