// Dense convolution on CPU and its two gradients, for XLA: float32, NHWC x HWIO -> NHWC.
//
// All three are sums over the taps u of a window, of products over channels (the formulas are in
// ops/conv_primitive.py), and all three have one inner loop: kPlaces x kVectors vector registers
// gather outer products, of a few scalars from one array and a few vectors from the other.
//
//   conv         sums over taps and Ci.  Scalars from x, vectors from the kernel.
//   input_grad   is conv of g with the swapped kernel. With a stride s the places j of gx fall into
//                s phases, j mod s, each of which meets its own taps only.
//   kernel_grad  sums over places.  Scalars from x, vectors from g.
//
// What makes that fast is memory order. Of x, a few rows at a time are copied with their padding
// into a scratch that stays in the second-level cache; there, the taps along one row of the window
// and their channels follow each other, and are one long run. The vectors are packed into panels
// two vectors wide, in the order in which they are read, and cut so that they stay in the first-
// level cache.
//
// A prototype: one element type, two spatial axes, no groups. The sums of kernel_grad are split by
// the number of threads, on which its last bits depend. Of the arrays only the batch may be empty.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Index = int64_t;

#ifdef __AVX512F__
constexpr Index kLanes = 16;
#else
constexpr Index kLanes = 8;
#endif
constexpr Index kVectors = 2;  // side by side in a panel, but for a narrower last one
template <Index V>
constexpr Index kPlaces = kLanes == 16 || V == 1 ? 8 : 6;  // of which V vectors each fit registers
constexpr Index kChunk = 384;              // rows of a panel that stay in the first-level cache
constexpr Index kConvScratch = 32 * 1024;  // floats of x that stay in the second-level cache
constexpr Index kGradPlaces = 128;         // summed up between two visits to memory

typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4)));

// Of the panel that begins `channels` before the last.
Index panel_width(Index channels) { return (channels > kLanes ? kVectors : 1) * kLanes; }

Index in_blocks_of(Index size, Index count) { return (count + size - 1) / size; }

// ---------------------------------------------------------------------------------- geometry

// Along one axis, output places first, first + every, ... which all meet the same taps: the m-th
// of them meets element stride m + shift of the source through tap `index` of the window.
struct Tap {
  Index shift, index;
};
struct Phase {
  Index first, every, count, stride;
  std::vector<Tap> taps;  // by ascending shift

  Index lowest(Index m) const { return stride * m + taps.front().shift; }
  Index highest(Index m) const { return stride * m + taps.back().shift; }
};

struct Axis {
  Index size, window, output, stride, dilation, low;  // `low` is the padding before
};

std::vector<Phase> forward_phases(const Axis& a) {
  Phase phase{0, 1, a.output, a.stride, {}};
  for (Index u = 0; u < a.window; ++u) phase.taps.push_back({a.dilation * u - a.low, u});
  return {phase};
}

std::vector<Phase> transposed_phases(const Axis& a) {
  std::vector<Phase> phases;
  for (Index first = 0; first < std::min(a.stride, a.size); ++first) {
    Phase phase{first, a.stride, (a.size - first + a.stride - 1) / a.stride, 1, {}};
    for (Index u = a.window - 1; u >= 0; --u) {
      Index reach = first + a.low - a.dilation * u;
      if (reach % a.stride == 0) phase.taps.push_back({reach / a.stride, u});
    }
    phases.push_back(phase);
  }
  return phases;
}

using Phases = std::vector<Phase>;

struct Image {
  Index height, width, channels;
  Index size() const { return height * width * channels; }
};

// The rectangle of an image that the output meets, padding included.
struct Frame {
  Image source;
  Index top, bottom, left, right;

  bool padded() const {
    return top < 0 || left < 0 || bottom > source.height || right > source.width;
  }
  // Floats from one row to the next, and from one image to the next, of what `rows` returns.
  Index pitch() const { return (padded() ? right - left : source.width) * source.channels; }
  Index step(Index begin, Index end) const {
    return padded() ? (end - begin) * pitch() : source.size();
  }

  // Rows [begin, end) of each of `count` images: themselves, or a padded copy in `scratch`.
  const float* rows(const float* images, Index count, Index begin, Index end,
                    std::vector<float>& scratch) const {
    const Index C = source.channels;
    if (!padded()) return images + (begin * source.width + left) * C;
    const Index size = count * step(begin, end);
    if (Index(scratch.size()) < size) scratch.resize(size);
    const Index from = std::clamp<Index>(0, left, right);
    const Index to = std::clamp(source.width, from, right);
    float* out = scratch.data();
    for (Index n = 0; n < count; ++n, images += source.size()) {
      for (Index row = begin; row < end; ++row, out += pitch()) {
        const bool inside = 0 <= row && row < source.height;
        const Index first = inside ? (from - left) * C : pitch();
        const Index last = inside ? (to - left) * C : pitch();
        std::fill(out, out + first, 0.0f);
        std::copy_n(images + (row * source.width + from) * C, last - first, out + first);
        std::fill(out + last, out + pitch(), 0.0f);
      }
    }
    return scratch.data();
  }
};

// The lowest element that any phase meets, and one past the highest.
std::pair<Index, Index> reach(const Phases& phases) {
  Index low = INT64_MAX, high = INT64_MIN;
  for (const Phase& p : phases) {
    if (p.taps.empty()) continue;
    low = std::min(low, p.lowest(0));
    high = std::max(high, p.highest(p.count - 1) + 1);
  }
  return low < high ? std::pair{low, high} : std::pair<Index, Index>{0, 0};
}

Frame make_frame(const Image& source, const Phases& rows, const Phases& columns) {
  const auto [top, bottom] = reach(rows);
  const auto [left, right] = reach(columns);
  return {source, top, bottom, left, right};
}

// Elements that follow each other in the frame and meet following rows of the kernel.
struct Run {
  Index offset, length;
};

std::vector<Run> make_runs(const Frame& frame, const Phase& rows, const Phase& columns) {
  std::vector<Run> runs;
  const Index C = frame.source.channels;
  for (const Tap& u : rows.taps) {
    for (const Tap& v : columns.taps) {
      Index offset = (u.shift - frame.top) * frame.pitch() + (v.shift - frame.left) * C;
      bool follows = !runs.empty() && runs.back().offset + runs.back().length == offset;
      if (follows && &v != &columns.taps.front()) {
        runs.back().length += C;
      } else {
        runs.push_back({offset, C});
      }
    }
  }
  return runs;
}

// ------------------------------------------------------------------------------- parallel tasks

// Calls task(i) for 0 <= i < count. The caller takes part and waits for none that has not begun,
// so that it cannot block a pool whose threads are all busy.
template <typename Task>
void parallel(ffi::ThreadPool& pool, Index count, const Task& task) {
  struct Shared {
    std::atomic<Index> next{0};
    std::mutex mutex;
    std::condition_variable all_done;
    Index done = 0;
  };
  auto shared = std::make_shared<Shared>();
  auto work = [shared, count, &task] {  // `task` is alive as long as there is an i < count
    Index finished = 0;
    for (Index i; (i = shared->next.fetch_add(1)) < count; ++finished) task(i);
    if (finished == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    if ((shared->done += finished) == count) shared->all_done.notify_one();
  };
  const Index helpers = std::min<Index>(pool.num_threads(), count) - 1;
  for (Index t = 0; t < helpers; ++t) pool.Schedule(decltype(work)(work));  // a copy
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done == count; });
}

// ------------------------------------------------------------------------ conv and input_grad

template <Index V>
void load(Vector (&acc)[V], const float* from, Index channels) {
  for (Index v = 0; v < V; ++v) {
    const float* lane = from + v * kLanes;
    if (Index n = channels - v * kLanes; n >= kLanes) {
      acc[v] = *reinterpret_cast<const Vector*>(lane);
    } else {
      for (Index j = 0; j < n; ++j) acc[v][j] = lane[j];
    }
  }
}

template <Index V>
void store(const Vector (&acc)[V], float* to, Index channels) {
  for (Index v = 0; v < V; ++v) {
    float* lane = to + v * kLanes;
    if (Index n = channels - v * kLanes; n >= kLanes) {
      *reinterpret_cast<Vector*>(lane) = acc[v];
    } else {
      for (Index j = 0; j < n; ++j) lane[j] = acc[v][j];
    }
  }
}

// to[p][:] += sum_{r, i} from[p][r.offset + i] panel[i'][:], i' counting on through the runs.
template <Index P, Index V>
void conv_tile(const float* const* from, float* const* to, Index valid, const float* panel,
               const std::vector<Run>& runs, Index channels, bool fresh) {
  Vector acc[P][V] = {};
  if (!fresh) {
    for (Index p = 0; p < valid; ++p) load<V>(acc[p], to[p], channels);
  }
  const float* x[P];
  for (Index p = 0; p < P; ++p) x[p] = from[p];
  for (const Run& run : runs) {
    for (Index i = run.offset; i < run.offset + run.length; ++i, panel += V * kLanes) {
      const Vector* w = reinterpret_cast<const Vector*>(panel);
#pragma GCC unroll 16
      for (Index p = 0; p < P; ++p) {
#pragma GCC unroll 4
        for (Index v = 0; v < V; ++v) acc[p][v] += x[p][i] * w[v];
      }
    }
  }
#pragma GCC unroll 16
  for (Index p = 0; p < P; ++p) {
    if (p < valid) store<V>(acc[p], to[p], channels);
  }
}

// Of one phase of rows with one of columns: the kernel in panels, and what to read beside it.
struct Part {
  const Phase *rows, *columns;
  std::vector<std::vector<Run>> chunks;  // each for at most kChunk rows of a panel
  Index length;                          // rows of a panel
  std::vector<float> panels;
};

std::vector<std::vector<Run>> make_chunks(const std::vector<Run>& runs, Index length) {
  const Index count = std::max<Index>(1, in_blocks_of(kChunk, length));
  std::vector<std::vector<Run>> chunks(count);
  Index done = 0, chunk = 0;
  for (Run run : runs) {
    while (run.length > 0) {
      const Index end = (chunk + 1) * length / count;
      const Index n = std::min(run.length, end - done);
      chunks[chunk].push_back({run.offset, n});
      run.offset += n;
      run.length -= n;
      if ((done += n) == end) ++chunk;
    }
  }
  return chunks;
}

struct Kernel {
  const float* data;
  Index width, in, out;  // of the window, and channels of source and output
  bool swapped;          // stored as (height, width, out, in)
};

// Panel after panel, each (length, panel_width) with zeros past the last channel.
std::vector<float> pack(const Kernel& k, const Part& part) {
  std::vector<float> panels(part.length * in_blocks_of(kLanes, k.out) * kLanes);
  float* panel = panels.data();
  for (Index o = 0; o < k.out; o += kVectors * kLanes) {
    const Index width = panel_width(k.out - o), n = std::min(width, k.out - o);
    for (const Tap& u : part.rows->taps) {
      for (const Tap& v : part.columns->taps) {
        const float* tap = k.data + (u.index * k.width + v.index) * k.in * k.out;
        if (k.swapped) {
          for (Index j = 0; j < n; ++j) {
            for (Index c = 0; c < k.in; ++c) panel[c * width + j] = tap[(o + j) * k.in + c];
          }
        } else {
          for (Index c = 0; c < k.in; ++c) std::copy_n(tap + c * k.out + o, n, panel + c * width);
        }
        panel += k.in * width;
      }
    }
  }
  return panels;
}

struct Source {
  const float* data;
  Index pitch, channels;
};

struct Output {
  float* data;
  Index width, stride;  // in places, and from place to place
  float* at(Index row, Index column) const { return data + (row * width + column) * stride; }
};

// One chunk for rows [begin, end) of one part's places; `x` begins where row `begin` does.
template <Index V>
void conv_rows(const Part& part, const std::vector<Run>& chunk, Index begin, Index end,
               const Source& x, const float* panel, const Output& y, Index channels, bool fresh) {
  constexpr Index P = kPlaces<V>;
  const Phase &rows = *part.rows, &columns = *part.columns;
  const Index places = (end - begin) * columns.count;
  Index row = 0, column = 0;
  const float* from[P];
  float* to[P];
  for (Index place = 0; place < places; place += P) {
    for (Index p = 0; p < P; ++p) {  // past the end the last place is repeated, and not stored
      from[p] = x.data + row * rows.stride * x.pitch + column * columns.stride * x.channels;
      to[p] = y.at(rows.first + rows.every * (begin + row), columns.first + columns.every * column);
      if (place + p + 1 < places && ++column == columns.count) column = 0, ++row;
    }
    conv_tile<P, V>(from, to, std::min(P, places - place), panel, chunk, channels, fresh);
  }
}

// Rows [begin, end) of one part's places, all channels.
void conv_part(const Part& part, Index begin, Index end, const Source& x, float* y,
               const Image& out) {
  const float* panel = part.panels.data();
  for (Index o = 0; o < out.channels; o += kVectors * kLanes) {
    const Index width = panel_width(out.channels - o), channels = std::min(width, out.channels - o);
    const Output to{y + o, out.width, out.channels};
    const auto rows = width == kLanes ? conv_rows<1> : conv_rows<kVectors>;
    bool fresh = true;
    for (const auto& chunk : part.chunks) {
      rows(part, chunk, begin, end, x, panel, to, channels, fresh);
      fresh = false;
      for (const Run& run : chunk) panel += run.length * width;
    }
  }
}

void convolve(ffi::ThreadPool& pool, Index N, const float* x, const Image& in, const Kernel& kernel,
              float* y, const Image& out, const Phases& rows, const Phases& columns) {
  const Frame frame = make_frame(in, rows, columns);
  std::vector<Part> parts;
  for (const Phase& r : rows) {
    for (const Phase& c : columns) {
      Part part{&r, &c, {}, Index(r.taps.size() * c.taps.size()) * kernel.in, {}};
      part.chunks = make_chunks(make_runs(frame, r, c), part.length);
      part.panels = pack(kernel, part);
      parts.push_back(std::move(part));
    }
  }
  const Index count = rows[0].count, stride = rows[0].stride;  // no phase has more rows
  const Index fit = kConvScratch / std::max<Index>(1, stride * frame.pitch());
  const Index blocks = in_blocks_of(std::clamp<Index>(fit, 1, count), count);
  const Index block = in_blocks_of(blocks, count);

  parallel(pool, N * blocks, [&](Index task) {
    static thread_local std::vector<float> scratch;
    const Index n = task / blocks, begin = task % blocks * block;
    const Index top = frame.top + stride * begin;
    Index bottom = top;
    for (const Phase& r : rows) {
      const Index end = std::min(begin + block, r.count);
      if (begin < end && !r.taps.empty()) bottom = std::max(bottom, r.highest(end - 1) + 1);
    }
    const float* from = frame.rows(x + n * in.size(), 1, top, bottom, scratch);
    for (const Part& part : parts) {
      const Index end = std::min(begin + block, part.rows->count);
      conv_part(part, begin, end, {from, frame.pitch(), in.channels}, y + n * out.size(), out);
    }
  });
}

// -------------------------------------------------------------------------------- kernel_grad

// The places to sum over: rows of them, each `columns` long, in x.
struct Walk {
  std::vector<Index> row_starts;
  Index columns, step;
};

// sums[m][:] += sum_places x[place + elements[m]] panel[place][:].
template <Index M, Index V>
void grad_tile(const float* x, const Walk& walk, const Index* elements, const float* panel,
               float* sums) {
  Vector acc[M][V];
  const float* from[M];
  for (Index m = 0; m < M; ++m) {
    load<V>(acc[m], sums + m * V * kLanes, V * kLanes);
    from[m] = x + elements[m];
  }
  for (Index start : walk.row_starts) {
    const Index end = start + walk.columns * walk.step;
    for (Index i = start; i < end; i += walk.step, panel += V * kLanes) {
      const Vector* g = reinterpret_cast<const Vector*>(panel);
#pragma GCC unroll 16
      for (Index m = 0; m < M; ++m) {
#pragma GCC unroll 4
        for (Index v = 0; v < V; ++v) acc[m][v] += from[m][i] * g[v];
      }
    }
  }
  for (Index m = 0; m < M; ++m) store<V>(acc[m], sums + m * V * kLanes, V * kLanes);
}

template <Index V, Index M = kPlaces<V>>
void grad_rows(Index m, const float* x, const Walk& walk, const Index* elements, const float* panel,
               float* sums) {
  if (m == M) return grad_tile<M, V>(x, walk, elements, panel, sums);
  if constexpr (M > 1) grad_rows<V, M - 1>(m, x, walk, elements, panel, sums);
}

// What lanes past the last channel hold does not matter, as long as it may be read.
template <Index V>
void fill_panel(const float* places, Index count, Index step, Index channels, const float* end,
                float* panel) {
  for (; count > 0; --count, places += step, panel += V * kLanes) {
    if (end - places >= V * kLanes) {
      std::memcpy(panel, places, V * sizeof(Vector));
    } else {
      std::copy_n(places, channels, panel);
    }
  }
}

// What a block of places adds to all of gk, which lies in panels as a kernel does.
void grad_block(const float* x, const Walk& walk, const std::vector<Index>& elements,
                const float* g, const float* g_end, Index Co, float* sums) {
  static thread_local std::vector<float> panel;
  const Index places = walk.row_starts.size() * walk.columns;
  if (Index size = places * kVectors * kLanes; Index(panel.size()) < size) panel.resize(size);
  const Index length = elements.size();
  for (Index o = 0; o < Co; o += kVectors * kLanes) {
    const Index width = panel_width(Co - o);
    const bool narrow = width == kLanes;
    const auto fill = narrow ? fill_panel<1> : fill_panel<kVectors>;
    const auto rows = narrow ? grad_rows<1> : grad_rows<kVectors>;
    fill(g + o, places, Co, std::min(width, Co - o), g_end, panel.data());
    const Index tiles = in_blocks_of(narrow ? kPlaces<1> : kPlaces<kVectors>, length);
    for (Index t = 0; t < tiles; ++t) {  // of nearly equal heights
      const Index r = t * length / tiles, height = (t + 1) * length / tiles - r;
      rows(height, x, walk, &elements[r], panel.data(), sums);
      sums += height * width;
    }
  }
}

void add_up(const std::vector<float>& sums, Index slices, Index length, Index Co, float* gk) {
  const Index size = sums.size() / slices;
  const float* sum = sums.data();
  for (Index o = 0; o < Co; o += kVectors * kLanes) {
    const Index width = panel_width(Co - o);
    for (Index r = 0; r < length; ++r, sum += width) {
      for (Index j = 0; j < std::min(width, Co - o); ++j) {
        float total = 0;
        for (Index slice = 0; slice < slices; ++slice) total += sum[slice * size + j];
        gk[r * Co + o + j] = total;
      }
    }
  }
}

void sum_products(ffi::ThreadPool& pool, Index N, const float* x, const Image& in, const float* g,
                  float* gk, Index Co, const Phase& rows, const Phase& columns) {
  const Frame frame = make_frame(in, {rows}, {columns});
  std::vector<Index> elements;  // that a place at 0 meets, in the order of the rows of gk
  for (const Run& run : make_runs(frame, rows, columns)) {
    for (Index i = 0; i < run.length; ++i) elements.push_back(run.offset + i);
  }
  // A block is a few rows of one image, or a few small images.
  const Index fit = std::clamp<Index>(kGradPlaces / columns.count, 1, rows.count);
  const Index blocks = in_blocks_of(fit, rows.count), block = in_blocks_of(blocks, rows.count);
  const Index image = rows.count * columns.count;
  const Index together = std::max<Index>(1, kGradPlaces / image);
  const Index groups = in_blocks_of(together, N);
  const Index slices = std::max<Index>(1, std::min(pool.num_threads(), groups));
  const Index size = elements.size() * in_blocks_of(kLanes, Co) * kLanes;
  std::vector<float> sums(slices * size);

  parallel(pool, slices, [&](Index slice) {
    static thread_local std::vector<float> scratch;
    for (Index group = slice * groups / slices; group < (slice + 1) * groups / slices; ++group) {
      const Index first = group * together, images = std::min(together, N - first);
      for (Index begin = 0; begin < rows.count; begin += block) {
        const Index end = std::min(begin + block, rows.count);
        const Index top = rows.lowest(begin), bottom = rows.highest(end - 1) + 1;
        Walk walk{{}, columns.count, columns.stride * in.channels};
        for (Index n = 0; n < images; ++n) {
          for (Index row = 0; row < end - begin; ++row) {
            walk.row_starts.push_back(n * frame.step(top, bottom) +
                                      row * rows.stride * frame.pitch());
          }
        }
        const float* from = frame.rows(x + first * in.size(), images, top, bottom, scratch);
        const float* places = g + (first * image + begin * columns.count) * Co;
        grad_block(from, walk, elements, places, g + N * image * Co, Co, &sums[slice * size]);
      }
    }
  });
  add_up(sums, slices, elements.size(), Co, gk);
}

// ------------------------------------------------------------------------- what XLA calls

using Array = ffi::BufferR4<ffi::F32>;
using Result = ffi::Result<Array>;
using Pair = ffi::Span<const int64_t>;

Axis axis(int which, const Array::Dimensions& x, const Array::Dimensions& k,
          const Array::Dimensions& g, Pair stride, Pair dilation, Pair low) {
  return {x[1 + which], k[which], g[1 + which], stride[which], dilation[which], low[which]};
}

Image image(const Array::Dimensions& shape) { return {shape[1], shape[2], shape[3]}; }

ffi::Error conv(ffi::ThreadPool pool, Array x, Array k, Pair stride, Pair dilation, Pair low,
                Result y) {
  const auto X = x.dimensions(), K = k.dimensions(), Y = y->dimensions();
  convolve(pool, X[0], x.typed_data(), image(X), {k.typed_data(), K[1], K[2], K[3], false},
           y->typed_data(), image(Y), forward_phases(axis(0, X, K, Y, stride, dilation, low)),
           forward_phases(axis(1, X, K, Y, stride, dilation, low)));
  return ffi::Error::Success();
}

ffi::Error input_grad(ffi::ThreadPool pool, Array g, Array k, Pair stride, Pair dilation, Pair low,
                      Result gx) {
  const auto G = g.dimensions(), K = k.dimensions(), X = gx->dimensions();
  convolve(pool, X[0], g.typed_data(), image(G), {k.typed_data(), K[1], K[3], K[2], true},
           gx->typed_data(), image(X), transposed_phases(axis(0, X, K, G, stride, dilation, low)),
           transposed_phases(axis(1, X, K, G, stride, dilation, low)));
  return ffi::Error::Success();
}

ffi::Error kernel_grad(ffi::ThreadPool pool, Array x, Array g, Pair stride, Pair dilation, Pair low,
                       Result gk) {
  const auto X = x.dimensions(), G = g.dimensions(), K = gk->dimensions();
  sum_products(pool, X[0], x.typed_data(), image(X), g.typed_data(), gk->typed_data(), K[3],
               forward_phases(axis(0, X, K, G, stride, dilation, low))[0],
               forward_phases(axis(1, X, K, G, stride, dilation, low))[0]);
  return ffi::Error::Success();
}

}  // namespace

#define HANDLER(symbol, function)                                       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(symbol, function,                       \
                                ffi::Ffi::Bind()                        \
                                    .Ctx<ffi::ThreadPool>()             \
                                    .Arg<Array>()                       \
                                    .Arg<Array>()                       \
                                    .Attr<Pair>("stride")               \
                                    .Attr<Pair>("dilation")             \
                                    .Attr<Pair>("low")                  \
                                    .Ret<Array>())

HANDLER(ConvaxConv, conv);
HANDLER(ConvaxInputGrad, input_grad);
HANDLER(ConvaxKernelGrad, kernel_grad);
