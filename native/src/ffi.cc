// The binding to XLA: handlers that check what they are given, and call the kernels with XLA's own
// threads. Nothing else here knows of XLA.

#include "xla/ffi/api/ffi.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <string>

#include "c_api.h"
#include "kernels.h"

namespace {

namespace ffi = xla::ffi;
using convax::Conv;
using convax::Executor;
using convax::Index;

// XLA's pool. The caller takes part and waits for no task that has not begun, so that it cannot
// block a pool whose threads are all busy, be it with other callers of this.
class Pool : public Executor {
 public:
  explicit Pool(ffi::ThreadPool& pool) : pool_(pool) {}
  Index workers() const override { return std::max<Index>(1, pool_.num_threads()); }

  void run(Index count, const Task& task) override {
    struct Shared {
      std::atomic<Index> next{0};
      std::mutex mutex;
      std::condition_variable all_done;
      Index done = 0;
    };
    const auto shared = std::make_shared<Shared>();
    // `task` lives as long as there is an i < count: a helper that comes later does not touch it.
    const auto work = [shared, count, &task](Index worker) {
      Index finished = 0;
      for (Index i; (i = shared->next.fetch_add(1)) < count; ++finished) task(i, worker);
      if (finished == 0) return;
      std::lock_guard<std::mutex> lock(shared->mutex);
      if ((shared->done += finished) == count) shared->all_done.notify_one();
    };
    const Index helpers = std::min(workers(), count) - 1;
    for (Index worker = 1; worker <= helpers; ++worker) {
      try {
        pool_.Schedule([work, worker] { work(worker); });
      } catch (const std::bad_alloc&) {
        break;  // those that there are do the work, and use `task` as long as this call lasts
      }
    }
    work(0);
    std::unique_lock<std::mutex> lock(shared->mutex);
    shared->all_done.wait(lock, [&] { return shared->done == count; });
  }

 private:
  ffi::ThreadPool& pool_;
};

using Array = ffi::BufferR4<ffi::F32>;
using Shape = Array::Dimensions;
using Result = ffi::Result<Array>;
using Pair = ffi::Span<const int64_t>;
using Function = void (*)(const Conv&, const float*, const float*, float*, Executor&);
using Fits = bool (*)(const Conv&);

// What a handler does with its operands and its result, whose shapes are those of x, k and g in the
// order that each function has them.
ffi::Error call(Function function, Fits fits, ffi::ThreadPool& pool, const Array& a,
                const Array& b, Result& result, const Shape& x, const Shape& k, const Shape& g,
                Pair stride, Pair dilation, Pair low) {
  if (stride.size() != 2 || dilation.size() != 2 || low.size() != 2) {
    return ffi::Error::InvalidArgument("convax: stride, dilation and low need two numbers each");
  }
  const Index groups = k[2] > 0 && k[2] < x[3] ? x[3] / k[2] : 1;
  if (x[0] != g[0] || x[3] != k[2] * groups || k[3] != g[3]) {
    return ffi::Error::InvalidArgument("convax: batch or channels do not match");
  }
  const auto axis = [&](int i) {
    return convax::Axis{x[1 + i], k[i], g[1 + i], stride[i], dilation[i], low[i]};
  };
  const Conv conv{x[0], x[3], k[3], groups, axis(0), axis(1)};
  const float *of_a = a.typed_data(), *of_b = b.typed_data();
  if (const char* fault = convax::find_fault(conv, of_a, of_b, result->typed_data())) {
    return ffi::Error::InvalidArgument(std::string("convax: ") + fault);
  }
  if (!fits(conv)) {
    return ffi::Error::InvalidArgument("convax: this kernel is not for such a convolution");
  }
  try {
    Pool executor(pool);
    function(conv, of_a, of_b, result->typed_data(), executor);
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "convax: a convolution is out of memory");
  }
  return ffi::Error::Success();
}

template <Function function, Fits fits>
ffi::Error conv(ffi::ThreadPool pool, Array x, Array k, Pair stride, Pair dilation, Pair low,
                Result y) {
  return call(function, fits, pool, x, k, y, x.dimensions(), k.dimensions(), y->dimensions(),
              stride, dilation, low);
}

template <Function function, Fits fits>
ffi::Error input_grad(ffi::ThreadPool pool, Array g, Array k, Pair stride, Pair dilation, Pair low,
                      Result gx) {
  return call(function, fits, pool, g, k, gx, gx->dimensions(), k.dimensions(), g.dimensions(),
              stride, dilation, low);
}

template <Function function, Fits fits>
ffi::Error kernel_grad(ffi::ThreadPool pool, Array x, Array g, Pair stride, Pair dilation, Pair low,
                       Result gk) {
  return call(function, fits, pool, x, g, gk, x.dimensions(), gk->dimensions(), g.dimensions(),
              stride, dilation, low);
}

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Array>()
      .Arg<Array>()
      .Attr<Pair>("stride")
      .Attr<Pair>("dilation")
      .Attr<Pair>("low")
      .Ret<Array>();
}

}  // namespace

void convax_kernels_ffi_api(int32_t* major, int32_t* minor) {
  *major = XLA_FFI_API_MAJOR;
  *minor = XLA_FFI_API_MINOR;
}

// The handlers of an algorithm, for Python to register.
#define CONVAX_HANDLERS(algorithm)                                                                \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                                  \
      convax_##algorithm##_conv, (conv<convax::algorithm::conv, convax::algorithm::fits>),        \
      binding());                                                                                 \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                                  \
      convax_##algorithm##_input_grad,                                                            \
      (input_grad<convax::algorithm::input_grad, convax::algorithm::fits>), binding());           \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                                  \
      convax_##algorithm##_kernel_grad,                                                           \
      (kernel_grad<convax::algorithm::kernel_grad, convax::algorithm::fits>), binding())

#pragma GCC visibility push(default)
CONVAX_HANDLERS(direct);
CONVAX_HANDLERS(winograd);
CONVAX_HANDLERS(depthwise);
#pragma GCC visibility pop
