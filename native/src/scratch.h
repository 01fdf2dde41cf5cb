// Memory for one call: allocated before its tasks begin, which so cannot fail.
#pragma once

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include "kernels.h"

namespace convax {

constexpr Index kLine = 16;                     // floats of a cache line
constexpr Index kMostScratch = Index{1} << 34;  // floats; beyond it a size is a mistake

// a b, or std::bad_alloc if that is no size of memory.
inline Index multiply_sizes(Index a, Index b) {
  Index product;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) || product > kMostScratch) {
    throw std::bad_alloc();
  }
  return product;
}

// Memory of calls that have ended, for calls to come. What the allocator gives back to the system and
// fetches anew is faulted in page by page, which takes longer than to fill it: for the transformed
// kernel of 512 x 512 channels, 38 MB, more than half of the time of a call.
class Pool {
 public:
  struct Block {
    float* data = nullptr;
    std::size_t bytes = 0;
  };

  // Never destroyed: threads may end behind it.
  static Pool& shared() {
    static Pool* const pool = new Pool;
    return *pool;
  }

  // A block of so many bytes at least, uninitialized; std::bad_alloc.
  Block take(std::size_t bytes) {
    if (bytes >= kLeast) {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (std::size_t i = kept_.size(); i-- > 0;) {
        if (bytes <= kept_[i].bytes && kept_[i].bytes <= 2 * bytes) {
          const Block found = kept_[i];
          kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(i));
          total_ -= found.bytes;
          return found;
        }
      }
    }
    auto* data = static_cast<float*>(std::aligned_alloc(kLine * sizeof(float), bytes));
    if (bytes > 0 && data == nullptr) throw std::bad_alloc();
    return {data, bytes};
  }

  // The oldest blocks go where there are too many.
  void give(Block block) noexcept {
    if (block.bytes < kLeast || block.bytes > kMost) return std::free(block.data);
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
      kept_.push_back(block);
    } catch (const std::bad_alloc&) {
      return std::free(block.data);
    }
    total_ += block.bytes;
    while (total_ > kMost) {
      total_ -= kept_.front().bytes;
      std::free(kept_.front().data);
      kept_.erase(kept_.begin());
    }
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr std::size_t kMost = 0;  // so that what lies behind a block is seen
#else
  static constexpr std::size_t kMost = std::size_t{256} << 20;
#endif
  static constexpr std::size_t kLeast = std::size_t{1} << 20;  // the allocator keeps what is smaller

  std::mutex mutex_;
  std::vector<Block> kept_;  // the last given back at the end
  std::size_t total_ = 0;
};

// `pieces` arrays of `size` floats each, uninitialized, none sharing a cache line with another.
class Scratch {
 public:
  Scratch(Index pieces, Index size) : step_((multiply_sizes(size, 1) + kLine - 1) / kLine * kLine) {
    const Index floats = multiply_sizes(pieces, step_);
    block_ = Pool::shared().take(static_cast<std::size_t>(floats) * sizeof(float));
  }
  ~Scratch() { Pool::shared().give(block_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* operator[](Index piece) const { return block_.data + piece * step_; }

 private:
  Index step_;
  Pool::Block block_;
};

}  // namespace convax
