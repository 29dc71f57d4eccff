// What every source begins with.
#pragma once

#ifndef SHARED
// The block's dynamic shared memory, as an array of T. The tests define their own.
#define SHARED(T, name)                                               \
    extern __shared__ __align__(16) unsigned char dynamic_shared[]; \
    T* const name = reinterpret_cast<T*>(dynamic_shared)
#endif

#define INLINE __device__ __forceinline__
