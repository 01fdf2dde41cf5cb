// The kernel gradient of depthwise convolution: for each tap and channel, a sum over places.
//
//   gk[u, c] = sum_{n,i}  x[n, s i + d u - p, c]  g[n, i, c]
//
// Places are cut into rectangles, all of whose places meet the same taps inside the image; what
// lies in the padding is left out. Of a rectangle a few taps at a time are added up in registers,
// then to the sums in memory: short sums round less than one long one. Blocks of places are shared
// out among slices, whose sums are added at the end. All are cut by the shapes alone, so the bits
// are, too.
//
// Where a result is not finite, g may hold what is not, and the padding counts: it is then computed
// again with `Padded`, and so it is at once where a place meets padding alone.

#include <algorithm>

#include "depthwise_source.h"

namespace convax::depthwise {
namespace {

constexpr Index kBlock = 512;      // places
constexpr Index kMostSlices = 16;  // as many threads are kept busy
constexpr Index kMostTaps = kRegisters == 32 ? 9 : 6;  // whose sums fit registers, two vectors each

// ------------------------------------------------------------------------------------ rectangles

// Places [begin, end) of a phase, whose taps [first, last) meet elements inside.
struct Segment {
  Index begin, end, first, last;
};

std::vector<Segment> segments_of(const Phase& phase, Index size) {
  const auto met_below = [&](Index m, Index element) {  // taps that meet elements below this one
    const auto below = [&](const Tap& tap) { return phase.stride * m + tap.shift < element; };
    return static_cast<Index>(std::count_if(phase.taps.begin(), phase.taps.end(), below));
  };
  std::vector<Segment> segments;
  for (Index m = 0; m < phase.count; ++m) {
    const Index first = met_below(m, 0), last = met_below(m, size);
    if (m == 0 || segments.back().first != first || segments.back().last != last) {
      segments.push_back({m, m, first, last});
    }
    segments.back().end = m + 1;
  }
  return segments;
}

struct Rectangle {
  Segment rows, columns;
  bool meets_taps() const { return rows.first < rows.last && columns.first < columns.last; }
};

std::vector<Rectangle> rectangles_of(const Source& source) {
  std::vector<Rectangle> rectangles;
  for (const Segment& rows : segments_of(source.rows[0], source.image.height)) {
    for (const Segment& columns : segments_of(source.columns[0], source.image.width)) {
      rectangles.push_back({rows, columns});
    }
  }
  return rectangles;
}

// What a tap meets, beside what the first does, and where its weights are in the kernel.
struct Offsets {
  Index element, weights;
};
using Taps = std::vector<Offsets>;

void list_taps(const Rectangle& r, const Source& source, Taps& taps) {
  const auto &rows = source.rows[0].taps, &columns = source.columns[0].taps;
  const Index C = source.image.channels, width = static_cast<Index>(columns.size());
  taps.clear();
  for (Index u = r.rows.first; u < r.rows.last; ++u) {
    const Index row = rows[u].shift - rows[r.rows.first].shift;
    for (Index v = r.columns.first; v < r.columns.last; ++v) {
      const Index column = columns[v].shift - columns[r.columns.first].shift;
      taps.push_back({(row * source.image.width + column) * C, (u * width + v) * C});
    }
  }
}

// ------------------------------------------------------------------------------------------ sums

// Places, and floats from one to the next.
struct Places {
  Index images, rows, columns;
  struct Steps {
    Index image, row, column;
  } x, g;
};

// sums[t] += sum_places x[place + t] g[place], added up by itself first, for V vectors of channels.
template <Index T, Index V, bool whole>
void add_taps(const float* x, const float* g, const Places& places, const Offsets* taps,
              Index channels, float* sums) {
  const auto left = [&](Index v) { return whole ? kLanes : channels - v * kLanes; };
  Vector sum[T][V] = {};
  const float* from[T];
  for (Index t = 0; t < T; ++t) from[t] = x + taps[t].element;
  for (Index image = 0; image < places.images; ++image) {
    for (Index row = 0; row < places.rows; ++row) {
      const float* of_g = g + image * places.g.image + row * places.g.row;
      const Index begin = image * places.x.image + row * places.x.row;
      const Index end = begin + places.columns * places.x.column;
      for (Index i = begin; i < end; i += places.x.column, of_g += places.g.column) {
        Vector w[V];
        for (Index v = 0; v < V; ++v) w[v] = load(of_g + v * kLanes, left(v));
#pragma GCC unroll 16
        for (Index t = 0; t < T; ++t) {
#pragma GCC unroll 4
          for (Index v = 0; v < V; ++v) {
            sum[t][v] = fma(load(from[t] + i + v * kLanes, left(v)), w[v], sum[t][v]);
          }
        }
      }
    }
  }
  for (Index t = 0; t < T; ++t) {
    for (Index v = 0; v < V; ++v) {
      float* to = sums + taps[t].weights + v * kLanes;
      store(to, load(to, left(v)) + sum[t][v], left(v));
    }
  }
}

// The same for any number of taps, in tiles of nearly equal height.
template <Index V, bool whole, Index T = kMostTaps>
void add_tile(Index height, const float* x, const float* g, const Places& places,
              const Offsets* taps, Index channels, float* sums) {
  if (height == T) return add_taps<T, V, whole>(x, g, places, taps, channels, sums);
  if constexpr (T > 1) add_tile<V, whole, T - 1>(height, x, g, places, taps, channels, sums);
}

template <Index V, bool whole>
void add_all_taps(const float* x, const float* g, const Places& places, const Taps& taps,
                  Index channels, float* sums) {
  const Index count = static_cast<Index>(taps.size()), tiles = ceil_div(count, kMostTaps);
  for (Index t = 0; t < tiles; ++t) {
    const Index begin = t * count / tiles, end = (t + 1) * count / tiles;
    add_tile<V, whole>(end - begin, x, g, places, taps.data() + begin, channels, sums);
  }
}

// Rows [begin, end) of a rectangle's places in some images, all channels.
void add_rectangle(const Rectangle& r, Index begin, Index end, Index images, const Source& source,
                   const float* x, const float* g, const Image& out, const Taps& taps,
                   float* sums) {
  const Phase &rows = source.rows[0], &columns = source.columns[0];
  const Image& in = source.image;
  const Index C = in.channels, column = r.columns.begin;
  const Index row_of_x = rows.stride * begin + rows.taps[r.rows.first].shift;
  const Index column_of_x = columns.stride * column + columns.taps[r.columns.first].shift;
  x += (row_of_x * in.width + column_of_x) * C;
  g += (begin * out.width + column) * C;
  const Places places{images,
                      end - begin,
                      r.columns.end - column,
                      {in.size(), rows.stride * in.width * C, columns.stride * C},
                      {out.size(), out.width * C, C}};
  Index c = 0;
  for (; c + kPanel <= C; c += kPanel) {
    add_all_taps<kVectors, true>(x + c, g + c, places, taps, kPanel, sums + c);
  }
  for (; c + kLanes <= C; c += kLanes) {
    add_all_taps<1, true>(x + c, g + c, places, taps, kLanes, sums + c);
  }
  if (c < C) add_all_taps<1, false>(x + c, g + c, places, taps, C - c, sums + c);
}

void sum_products(Index batch, const Source& source, const std::vector<Rectangle>& rectangles,
                  const float* g, const Image& out, Index taps, float* gk, Executor& executor) {
  const Index C = out.channels, rows = out.height;
  // A block is a few rows of one image, or a few small images.
  const Index blocks = ceil_div(rows, std::clamp<Index>(kBlock / out.width, 1, rows));
  const Index together = std::clamp<Index>(kBlock / (rows * out.width), 1, batch);
  const Index all = ceil_div(batch, together) * blocks, slices = std::min(kMostSlices, all);

  std::vector<Taps> lists(executor.workers());
  for (Taps& list : lists) list.reserve(taps);
  const Scratch sums(slices, multiply_sizes(taps, C));
  executor.run(slices, [&](Index slice, Index worker) {
    std::fill_n(sums[slice], taps * C, 0.0f);
    for (Index i = slice * all / slices; i < (slice + 1) * all / slices; ++i) {
      const Index image = i / blocks * together, images = std::min(together, batch - image);
      const Index begin = i % blocks * rows / blocks, end = (i % blocks + 1) * rows / blocks;
      for (const Rectangle& r : rectangles) {
        const Index first = std::max(begin, r.rows.begin), last = std::min(end, r.rows.end);
        if (first >= last || !r.meets_taps()) continue;
        list_taps(r, source, lists[worker]);
        add_rectangle(r, first, last, images, source, source.data + image * source.image.size(),
                      g + image * out.size(), out, lists[worker], sums[slice]);
      }
    }
  });
  executor.run(taps, [&](Index tap, Index) {
    for (Index i = tap * C; i < (tap + 1) * C; ++i) {
      gk[i] = sums[0][i];
      for (Index slice = 1; slice < slices; ++slice) gk[i] += sums[slice][i];
    }
  });
}

}  // namespace

void kernel_grad(const Conv& c, const float* x, const float* g, float* gk, Executor& executor) {
  const Index taps = c.rows.window * c.columns.window;
  const Image in{c.rows.size, c.columns.size, c.in};
  const Image out{c.rows.output, c.columns.output, c.out};
  if (c.batch * out.size() == 0) {
    std::fill_n(gk, taps * c.out, 0.0f);
    return;
  }
  const Source source{x, in, forward_phases(c.rows), forward_phases(c.columns)};
  const auto rectangles = rectangles_of(source);
  const auto meets_taps = [](const Rectangle& r) { return r.meets_taps(); };
  if (std::all_of(rectangles.begin(), rectangles.end(), meets_taps)) {
    sum_products(c.batch, source, rectangles, g, out, taps, gk, executor);
    if (is_finite(gk, taps * c.out)) return;
  }
  const Padded padded(c.batch, source);
  sum_products(c.batch, padded.source(), rectangles_of(padded.source()), g, out, taps, gk,
               executor);
}

}  // namespace convax::depthwise
