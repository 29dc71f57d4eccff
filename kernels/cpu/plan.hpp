// How a transform of one length is taken apart: tables only, the same for every instruction set and number type.
#pragma once

#include <memory>
#include <vector>

namespace apr {

// One in-place pass of butterflies. The data are `blocks` blocks of radix·legs·inner elements; leg j of butterfly
// (p, s) of a block is its element (j·legs + p)·inner + s.
struct Pass {
    int radix;
    int legs;
    int inner;
    int blocks;
    int twiddles;  // where the factors of this pass start in Plan::twiddles
};

// A discrete Fourier transform of length `size` on data in an order that suits the passes.
//
// The length is split into its coprime powers of 2, 3, 5 and 7, which combine without twiddle factors
// (Good-Thomas); within a power the passes are decimation in frequency. Nothing is ever put back into order: sample n
// goes in at place[n], and a spectrum stays in the order in which the passes leave it, where the frequency opposite to
// the one at position p lies at opposite[p]. The inverse runs the passes backwards and gives sample n at place[n].
struct Plan {
    int size = 0;
    std::vector<int> place;
    std::vector<int> opposite;
    std::vector<int> frequency;  // at each position
    std::vector<Pass> passes;
    std::vector<double> twiddles;  // cos, sin
    std::vector<double> roots;     // cos, sin of -2π·n/size, n < size

    // A length with another prime factor is transformed as a convolution with a chirp (Bluestein) of a length that
    // the passes can do; then `passes` is empty.
    std::shared_ptr<const Plan> convolution;
    std::vector<double> chirp;   // cos, sin of -π·n²/size, n < size
    std::vector<double> kernel;  // re, im of the chirp's spectrum over convolution->size, in its order
};

// The plan for a length, built once.
std::shared_ptr<const Plan> plan_for(int size);

}  // namespace apr
