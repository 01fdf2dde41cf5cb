// The inner loops of every kernel: P x V vector registers gather outer products, of P scalars from
// one array and V vectors from the other.
//
// Vectors lie in panels, V vectors wide, so that they are read in the order in which they are
// stored: a matrix of `rows` x `channels` is cut into panels of kVectors vectors, but for a
// narrower last one, each stored row after row. Lanes past the last channel hold zeros.
#pragma once

#include <algorithm>

#include "simd.h"

namespace convax {

constexpr Index kVectors = 2;
constexpr Index kPanel = kVectors * kLanes;

// P: as many as fit registers, beside the V vectors that are read and one scalar.
template <Index V>
constexpr Index kPlaces = kRegisters == 32 || V == 1 ? 8 : 6;

inline Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
inline Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }
inline Index panel_width(Index channels_left) { return channels_left > kLanes ? kPanel : kLanes; }
inline Index panel_floats(Index rows, Index channels) { return rows * round_up(channels, kLanes); }

// Where the vector of channels `channel`, ... of a row lies; `channel` is a multiple of kLanes.
inline Index panel_offset(Index row, Index channel, Index rows, Index channels) {
  const Index panel = channel / kPanel * kPanel;
  return panel * rows + row * panel_width(channels - panel) + (channel - panel);
}

// Elements that follow each other in one array, and meet following rows of a panel.
struct Run {
  Index offset, length;
};

// to[p][:] (+)= sum_{r, i} from[p][r.offset + i] panel[i'][:], i' counting on through the runs.
// Of the P places `valid` are stored, `channels` of each; the others repeat one.
template <Index P, Index V>
void multiply_runs(const float* const* from, float* const* to, Index valid, const float* panel,
                   const Run* runs, Index count, Index channels, bool add) {
  Vector sum[P][V] = {};
  if (add) {
    for (Index p = 0; p < valid; ++p) {
      for (Index v = 0; v < V; ++v) {
        if (channels > v * kLanes) sum[p][v] = load(to[p] + v * kLanes, channels - v * kLanes);
      }
    }
  }
  const float* x[P];
  for (Index p = 0; p < P; ++p) x[p] = from[p];
  for (const Run* run = runs; run < runs + count; ++run) {
    for (Index i = run->offset; i < run->offset + run->length; ++i, panel += V * kLanes) {
      Vector w[V];
      for (Index v = 0; v < V; ++v) w[v] = load(panel + v * kLanes);
#pragma GCC unroll 16
      for (Index p = 0; p < P; ++p) {
#pragma GCC unroll 4
        for (Index v = 0; v < V; ++v) sum[p][v] = fma(x[p][i], w[v], sum[p][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (Index p = 0; p < P; ++p) {
    if (p >= valid) break;
    for (Index v = 0; v < V; ++v) {
      if (channels > v * kLanes) store(to[p] + v * kLanes, sum[p][v], channels - v * kLanes);
    }
  }
}

// A grid of places to sum over: where each lies in the array of scalars.
struct Walk {
  Index images, rows, columns;              // how many
  Index image_step, row_step, column_step;  // from one to the next
  Index places() const { return images * rows * columns; }
};

// sums[m][:] += sum_places x[place + elements[m]] panel[place][:], added up by itself first.
template <Index M, Index V>
void add_products(const float* x, const Walk& walk, const Index* elements, const float* panel,
                  float* sums) {
  Vector sum[M][V] = {};
  const float* from[M];
  for (Index m = 0; m < M; ++m) from[m] = x + elements[m];
  for (Index image = 0; image < walk.images; ++image) {
    for (Index row = 0; row < walk.rows; ++row) {
      const Index begin = image * walk.image_step + row * walk.row_step;
      const Index end = begin + walk.columns * walk.column_step;
      for (Index i = begin; i < end; i += walk.column_step, panel += V * kLanes) {
        Vector w[V];
        for (Index v = 0; v < V; ++v) w[v] = load(panel + v * kLanes);
#pragma GCC unroll 16
        for (Index m = 0; m < M; ++m) {
#pragma GCC unroll 4
          for (Index v = 0; v < V; ++v) sum[m][v] = fma(from[m][i], w[v], sum[m][v]);
        }
      }
    }
  }
  for (Index m = 0; m < M; ++m) {
    for (Index v = 0; v < V; ++v) {
      float* to = sums + (m * V + v) * kLanes;
      store(to, load(to) + sum[m][v]);
    }
  }
}

// The same for any number of elements, in tiles of nearly equal height.
template <Index V, Index M = kPlaces<V>>
void add_products_of(Index height, const float* x, const Walk& walk, const Index* elements,
                     const float* panel, float* sums) {
  if (height == M) return add_products<M, V>(x, walk, elements, panel, sums);
  if constexpr (M > 1) add_products_of<V, M - 1>(height, x, walk, elements, panel, sums);
}

template <Index V>
void add_all_products(Index count, const float* x, const Walk& walk, const Index* elements,
                      const float* panel, float* sums) {
  const Index tiles = ceil_div(count, kPlaces<V>);
  for (Index t = 0; t < tiles; ++t) {
    const Index begin = t * count / tiles, end = (t + 1) * count / tiles;
    add_products_of<V>(end - begin, x, walk, elements + begin, panel, sums + begin * V * kLanes);
  }
}

}  // namespace convax
