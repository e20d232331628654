/* Masses of all levels under a mixture of discretised logistics, in 64-bit integers: what logistic_mixture.py does with
   tensors, one symbol after another. Shifts of negative numbers round down, as they do there. */

#include <stdint.h>

typedef int64_t i64;

/* share, mean, sharpness [n, m]; edges [levels - 1]; out [n, levels] */
void mixture_masses(const i64 *share, const i64 *mean, const i64 *sharpness, const i64 *edges, const i64 *table, i64 *out,
                    i64 n, i64 levels, i64 m, i64 argument_shift, i64 last, i64 between_bits, i64 mass_bits,
                    i64 kept_shift, i64 threads) {
  const i64 fraction = ((i64)1 << between_bits) - 1;
  (void)threads;
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1 && n > 15)
#endif
  for (i64 i = 0; i < n; ++i) {
    const i64 *shares = share + i * m, *means = mean + i * m, *sharps = sharpness + i * m;
    i64 sums[levels - 1], all = 0, before = 0;
    for (i64 e = 0; e < levels - 1; ++e) sums[e] = 0;
    for (i64 c = 0; c < m; ++c) {
      const i64 part = shares[c], centre = means[c], sharp = sharps[c];
      all += part;
      for (i64 e = 0; e < levels - 1; ++e) {
        i64 at = ((edges[e] - centre) * sharp) >> argument_shift;
        at = at < -last ? -last : at;
        at = (at > last ? last : at) + last;
        const i64 *entry = table + (at >> between_bits);
        sums[e] += part * (entry[0] + (((entry[1] - entry[0]) * (at & fraction)) >> between_bits));
      }
    }
    for (i64 e = 0; e < levels; ++e) {
      const i64 below = (e < levels - 1 ? sums[e] : all << mass_bits) >> kept_shift;
      out[i * levels + e] = below - before;
      before = below;
    }
  }
}
