// Memory of a thread's own that is kept from call to call.
#pragma once

#include "vector.h"

#include <cstdlib>
#include <memory>
#include <new>

class Workspace {
  public:
    // Begins anew, with room for `count` numbers in at most `parts` pieces; what was held is lost.
    void reserve(int64_t count, int64_t parts) {
        int64_t wanted = count + 16 * parts;
        if (wanted > room) {
            held.reset();
            held.reset(static_cast<float *>(std::aligned_alloc(64, round_up(4 * wanted, 64))));
            if (!held) throw std::bad_alloc();  // which ends the process, and says why
            room = wanted;
        }
        used = 0;
    }
    // The next piece, on a line of the cache of its own.
    float *take(int64_t count) {
        float *here = held.get() + used;
        used += round_up(count, 16);
        return here;
    }

  private:
    struct Free {
        void operator()(float *at) const { std::free(at); }
    };
    std::unique_ptr<float, Free> held;
    int64_t room = 0, used = 0;
};
