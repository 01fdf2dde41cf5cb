// Depthwise convolution and its input gradient.
//
//   y[n, i, c] = sum_u  x[n, s i + d u - p, c]  k[u, c]
//
// One loop serves both: the input gradient is such a convolution of g, with the taps in another
// order, and in s phases where there is a stride s (`transposed_phases`).
//
// This is no matrix product, but a matter of loads. Of a few places next to each other the sums
// stay in registers, and so do the weights of a row of the window; each element of x is loaded once
// for that row, and multiplied for all places that meet it. Elements in the padding are left out:
// in small images they are most of a window's.
//
// Each result is one sum in the order (u, v) of its taps, from zero.

#include <algorithm>

#include "depthwise_source.h"

namespace convax::depthwise {
namespace {

constexpr Index kMostPlaces = 8;           // next to each other
constexpr Index kMostWidth = 7;            // of a window
constexpr Index kMostStride = 2;           // along a row
constexpr Index kBlock = 64 * 1024;        // floats of the output of a task
constexpr Index kCache = 2 * 1024 * 1024;  // floats that the last cache is taken to hold

// Places next to each other in a row of the output, and what they meet.
struct Strip {
  const float* x;     // the row that the first row of taps meets
  Index width;        // its elements
  Index left;         // the one that the first tap of the first place meets, which may be outside
  Index rows, pitch;  // of taps, and floats from what one meets to the next
  Index channels;
  float* y;
  Index places, step;  // how many, and floats from one to the next
};

// Channels c, c + 1, ... of P places at most, whose windows of W elements begin S apart. `k` has W
// weights for each row of taps.
template <Index W, Index S, Index P, bool whole>
void multiply_vector(const Strip& s, const float* k, Index c) {
  constexpr Index kElements = (P - 1) * S + W;
  const Index channels = whole ? kLanes : s.channels - c;
  const Index begin = std::max<Index>(-s.left, 0), end = std::min(s.width - s.left, kElements);
  Vector sum[P] = {};
  Index first = s.left * s.channels + c;
  for (Index row = 0; row < s.rows; ++row, first += s.pitch, k += W * kLanes) {
    Vector w[W];
    for (Index v = 0; v < W; ++v) w[v] = load(k + v * kLanes);
#pragma GCC unroll 32
    for (Index j = 0; j < kElements; ++j) {
      if (j < begin || j >= end) continue;
      const Vector x = load(s.x + (first + j * s.channels), channels);
#pragma GCC unroll 16
      for (Index p = 0; p < P; ++p) {
        const Index v = j - S * p;
        if (v >= 0 && v < W) sum[p] = fma(x, w[v], sum[p]);
      }
    }
  }
#pragma GCC unroll 16
  for (Index p = 0; p < P; ++p) {
    if (p < s.places) store(s.y + p * s.step + c, sum[p], channels);
  }
}

// All channels: `k` has `taps` weights for each vector of them.
template <Index W, Index S, Index P>
void multiply_channels(const Strip& s, const float* k, Index taps) {
  Index c = 0;
  for (; c + kLanes <= s.channels; c += kLanes, k += taps * kLanes) {
    multiply_vector<W, S, P, true>(s, k, c);
  }
  if (c < s.channels) multiply_vector<W, S, P, false>(s, k, c);
}

template <Index W, Index S>
void multiply(const Strip& s, const float* k, Index taps) {
  if (s.places > kMostPlaces / 2) return multiply_channels<W, S, kMostPlaces>(s, k, taps);
  multiply_channels<W, S, kMostPlaces / 2>(s, k, taps);
}

using Multiply = void (*)(const Strip&, const float*, Index);
constexpr Multiply kMultiply[kMostStride][kMostWidth] = {
    {multiply<1, 1>, multiply<2, 1>, multiply<3, 1>, multiply<4, 1>, multiply<5, 1>, multiply<6, 1>,
     multiply<7, 1>},
    {multiply<1, 2>, multiply<2, 2>, multiply<3, 2>, multiply<4, 2>, multiply<5, 2>, multiply<6, 2>,
     multiply<7, 2>}};

// One phase of rows with one of columns, and its weights.
struct Part {
  const Phase *rows, *columns;
  Index offset;  // of the weights
  Index height() const { return static_cast<Index>(rows->taps.size()); }
  Index width() const { return static_cast<Index>(columns->taps.size()); }
  Index taps() const { return height() * width(); }
};

// Writes a part's weights: for each vector of channels those of all taps, one after the other.
void pack(const Part& part, const float* k, Index width, Index channels, float* to) {
  for (Index c = 0; c < channels; c += kLanes) {
    for (const Tap& u : part.rows->taps) {
      for (const Tap& v : part.columns->taps) {
        store(to, load(k + (u.index * width + v.index) * channels + c, channels - c));
        to += kLanes;
      }
    }
  }
}

// Asks for rows that are met next: of more images than caches hold, the channels of neighboring
// places are read in too many places at once for the processor to see by itself what follows.
void prefetch(const float* rows, Index count, Index pitch, Index size) {
  for (Index row = 0; row < count; ++row, rows += pitch) {
    for (Index i = 0; i < size; i += kLine) __builtin_prefetch(rows + i, 0, 2);
  }
}

// Row m of a part's places in one image, x in and y out.
void multiply_row(const Part& part, Index m, const float* x, const Image& in, const float* k,
                  float* y, const Image& out, bool cached) {
  const Phase &rows = *part.rows, &columns = *part.columns;
  const Index C = in.channels, pitch = in.width * C;
  const auto row_of = [&](Index tap) { return rows.stride * m + rows.taps[tap].shift; };
  Index first = 0, last = part.height();
  while (first < last && row_of(first) < 0) ++first;
  while (first < last && row_of(last - 1) >= in.height) --last;
  const bool some = first < last && part.width() > 0;
  const Index apart = part.height() > 1 ? rows.taps[1].shift - rows.taps[0].shift : 0;
  Strip s{};
  s.channels = C;
  s.step = columns.every * C;
  if (some) {
    s.x = x + row_of(first) * pitch;
    s.width = in.width;
    s.rows = last - first;
    s.pitch = apart * pitch;
  }
  k += part.offset + first * part.width() * kLanes;
  y += (rows.first + rows.every * m) * out.width * C + columns.first * C;
  const Multiply multiply = kMultiply[columns.stride - 1][std::max<Index>(part.width(), 1) - 1];
  for (Index column = 0; column < columns.count; column += kMostPlaces) {
    s.y = y + column * s.step;
    s.places = std::min(kMostPlaces, columns.count - column);
    if (some) s.left = columns.lowest(column);
    if (some && !cached && row_of(last - 1) + rows.stride < in.height) {
      const Index left = std::clamp<Index>(s.left, 0, in.width);
      const Index elements = std::min(s.places * columns.stride, in.width - left);
      prefetch(x + (row_of(last - 1) + 1) * pitch + left * C, rows.stride, pitch, elements * C);
    }
    multiply(s, k, part.taps());
  }
}

void correlate(Index batch, const Source& source, const float* k, Index width, float* y,
               const Image& out, Executor& executor) {
  if (batch * out.size() == 0) return;
  const Image& in = source.image;
  std::vector<Part> parts;
  Index packed = 0;
  for (const Phase& rows : source.rows) {
    for (const Phase& columns : source.columns) {
      parts.push_back({&rows, &columns, packed});
      packed += panel_floats(parts.back().taps(), out.channels);
    }
  }
  const Scratch weights(1, packed);
  for (const Part& part : parts) pack(part, k, width, out.channels, weights[0] + part.offset);

  // A block is some images, or a few rows of one; no phase has more rows than the first.
  const bool cached = batch * (in.size() + out.size()) <= kCache;
  const Index rows = source.rows[0].count;
  const Index share = ceil_div(batch, executor.workers());
  const Index together = std::clamp<Index>(kBlock / out.size(), 1, share);
  const Index blocks = std::min(rows, ceil_div(out.size(), kBlock));
  executor.run(ceil_div(batch, together) * blocks, [&](Index task, Index) {
    const Index image = task / blocks * together, block = task % blocks;
    for (Index n = image; n < std::min(image + together, batch); ++n) {
      for (Index m = block * rows / blocks; m < (block + 1) * rows / blocks; ++m) {
        for (const Part& part : parts) {
          if (m >= part.rows->count) continue;
          multiply_row(part, m, source.data + n * in.size(), in, weights[0], y + n * out.size(),
                       out, cached);
        }
      }
    }
  });
}

void correlate_any(const Conv& c, const Source& source, const float* k, float* y, const Image& out,
                   Executor& executor) {
  const Index width = c.columns.window;
  if (is_finite(k, c.rows.window * width * c.out)) {
    return correlate(c.batch, source, k, width, y, out, executor);
  }
  const Padded padded(c.batch, source);
  correlate(c.batch, padded.source(), k, width, y, out, executor);
}

}  // namespace

bool fits(const Conv& c) {
  return c.groups == c.in && c.groups == c.out && c.columns.window <= kMostWidth &&
         c.columns.stride <= kMostStride && c.columns.dilation == 1;
}

void conv(const Conv& c, const float* x, const float* k, float* y, Executor& executor) {
  const Source source{x,
                      {c.rows.size, c.columns.size, c.in},
                      forward_phases(c.rows),
                      forward_phases(c.columns)};
  correlate_any(c, source, k, y, {c.rows.output, c.columns.output, c.out}, executor);
}

void input_grad(const Conv& c, const float* g, const float* k, float* gx, Executor& executor) {
  const Source source{g,
                      {c.rows.output, c.columns.output, c.out},
                      transposed_phases(c.rows),
                      transposed_phases(c.columns)};
  correlate_any(c, source, k, gx, {c.rows.size, c.columns.size, c.in}, executor);
}

}  // namespace convax::depthwise
