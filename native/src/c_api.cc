#include "c_api.h"

#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "kernels.h"

namespace {

using convax::Conv;
using convax::Executor;
using convax::Index;

// Threads that end with each run: for tests. XLA's own are behind ffi.cc.
class Threads : public Executor {
 public:
  explicit Threads(Index count) : count_(count) {}
  Index workers() const override { return count_; }
  void run(Index count, const Task& task) override {
    std::atomic<Index> next{0};
    const auto work = [&](Index worker) {
      for (Index i; (i = next.fetch_add(1)) < count;) task(i, worker);
    };
    std::vector<std::thread> others;
    for (Index worker = 1; worker < count_; ++worker) others.emplace_back(work, worker);
    work(0);
    for (std::thread& other : others) other.join();
  }

 private:
  Index count_;
};

using Function = void (*)(const Conv&, const float*, const float*, float*, Executor&);
struct Algorithm {
  bool (*fits)(const Conv&);
  Function functions[3];
};
constexpr Algorithm kAlgorithms[] = {
    {convax::direct::fits,
     {convax::direct::conv, convax::direct::input_grad, convax::direct::kernel_grad}},
    {convax::winograd::fits,
     {convax::winograd::conv, convax::winograd::input_grad, convax::winograd::kernel_grad}},
    {convax::depthwise::fits,
     {convax::depthwise::conv, convax::depthwise::input_grad, convax::depthwise::kernel_grad}},
};

}  // namespace

int32_t convax_kernels_interface() { return 2; }

int32_t convax_kernels_supports(int32_t level) {
#if defined(__x86_64__)
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                  __builtin_cpu_supports("f16c") && __builtin_cpu_supports("lzcnt") &&
                  __builtin_cpu_supports("movbe");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return level == 3 ? v3 : level == 4 ? v4 : false;
#else
  (void)level;
  return false;
#endif
}

int32_t convax_kernels_run(int32_t algorithm, int32_t kind, const int64_t* shape, const float* a,
                           const float* b, float* result, int64_t threads) {
  const auto axis = [shape](int first) {
    return convax::Axis{shape[first],     shape[first + 1], shape[first + 2],
                        shape[first + 3], shape[first + 4], shape[first + 5]};
  };
  const Conv conv{shape[0], shape[1], shape[2], shape[3], axis(4), axis(10)};
  if (algorithm < 0 || algorithm > 2 || kind < 0 || kind > 2 || threads < 1) return 1;
  if (convax::find_fault(conv, a, b, result)) return 1;
  if (!kAlgorithms[algorithm].fits(conv)) return 1;
  try {
    Threads executor(threads);
    kAlgorithms[algorithm].functions[kind](conv, a, b, result, executor);
  } catch (const std::bad_alloc&) {
    return 2;
  }
  return 0;
}
