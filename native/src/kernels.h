// The interface of the kernels: convolution and its two gradients, float32, channels last.
//
//   T(x, k, g) = sum_{n,i,u,c,o}  x[n, s i + d u - p, c]  k[u, c, o]  g[n, i, o]
//
// with i the output position, u the tap of the window, s the stride, d the dilation, p the padding
// before (`low`), x zero outside its range, and over both spatial axes. The three functions are its
// partial derivatives:
//
//   conv         y  = dT/dg   (batch, rows.output, columns.output, out)
//   input_grad   gx = dT/dx   (batch, rows.size, columns.size, in)
//   kernel_grad  gk = dT/dk   (rows.window, columns.window, in, out)
//
// Depthwise, with a group for each channel c, k is (rows.window, columns.window, 1, out), and
//
//   T(x, k, g) = sum_{n,i,u,c}  x[n, s i + d u - p, c]  k[u, c]  g[n, i, c]
//
// Promises, of every function:
//   - The order of each sum depends on the shapes alone: not on the number of threads, and not on
//     the width of a vector. With the fused multiply-add of AVX2 and AVX-512 both give the same
//     bits; the plain build rounds twice where they round once.
//   - It reads and writes its arguments alone, which are aligned as floats are and no better; the
//     result does not overlap them.
//   - An infinity or NaN reaches the results alone whose sums it is in. Padding is zeros, which
//     times an infinity of the kernel are NaN.
//   - Where memory is wanting, std::bad_alloc before any work.
#pragma once

#include <cstdint>
#include <functional>

namespace convax {

using Index = std::int64_t;

struct Axis {
  Index size, window, output, stride, dilation, low;
};

struct Conv {
  Index batch, in, out, groups;  // examples, channels of x, channels of g; one group, or `in`
  Axis rows, columns;
};

// Returns what is wrong with a convolution that comes from outside, or with its arrays; or null.
const char* find_fault(const Conv& conv, const float* a, const float* b, const float* result);

// Runs independent tasks on some threads.
class Executor {
 public:
  // `worker` differs between tasks that run at the same time, and is below `workers()`.
  using Task = std::function<void(Index task, Index worker)>;

  virtual ~Executor() = default;
  virtual Index workers() const = 0;
  // Calls task(i, worker) for 0 <= i < count, and returns when all have returned.
  virtual void run(Index count, const Task& task) = 0;
};

// Sums as they are written above: any window, stride and dilation, one group.
namespace direct {
bool fits(const Conv& conv);
void conv(const Conv& conv, const float* x, const float* k, float* y, Executor& executor);
void input_grad(const Conv& conv, const float* g, const float* k, float* gx, Executor& executor);
void kernel_grad(const Conv& conv, const float* x, const float* g, float* gk, Executor& executor);
}  // namespace direct

// With fewer multiplications: windows of 3 x 3 without stride or dilation, one group.
namespace winograd {
bool fits(const Conv& conv);
void conv(const Conv& conv, const float* x, const float* k, float* y, Executor& executor);
void input_grad(const Conv& conv, const float* g, const float* k, float* gx, Executor& executor);
void kernel_grad(const Conv& conv, const float* x, const float* g, float* gk, Executor& executor);
}  // namespace winograd

// A group for each channel: windows along columns of 7 at most, with strides of 2 at most and no
// dilation; anything along rows.
namespace depthwise {
bool fits(const Conv& conv);
void conv(const Conv& conv, const float* x, const float* k, float* y, Executor& executor);
void input_grad(const Conv& conv, const float* g, const float* k, float* gx, Executor& executor);
void kernel_grad(const Conv& conv, const float* x, const float* g, float* gk, Executor& executor);
}  // namespace depthwise

}  // namespace convax
