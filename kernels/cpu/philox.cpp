// Philox 4 × 64: one block after another or, with AVX-512, twice eight at a time.
#include "random.hpp"
#include "simd.hpp"

namespace apr {
namespace {

// Both halves of a product.
template <class T>
struct Product {
    T high, low;
};

Product<std::uint64_t> multiply(std::uint64_t a, std::uint64_t b) {
    __extension__ using Both = unsigned __int128;
    const Both product = static_cast<Both>(a) * b;
    return {static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product)};
}

#if defined(__AVX512F__)
using Wide = Vector<std::uint64_t>;
inline constexpr std::size_t kBlocks = kLanes<std::uint64_t>;

// The lower halves of the numbers multiplied.
APR_INLINE Wide multiply_halves(Wide a, Wide b) {
    return bits<Wide>(_mm512_maskz_mul_epu32(0xff, bits<__m512i>(a), bits<__m512i>(b)));
}
APR_INLINE Product<Wide> multiply(Wide a, std::uint64_t b) {
    const Wide above = Wide{} + (b >> 32), below = Wide{} + b, mask = Wide{} + 0xffffffffu;
    const Wide low = multiply_halves(a, below);
    const Wide left = multiply_halves(a >> 32, below) + (low >> 32);
    const Wide right = multiply_halves(a, above) + (left & mask);
    return {multiply_halves(a >> 32, above) + (left >> 32) + (right >> 32), (right << 32) | (low & mask)};
}

// The words of one block after another.
APR_INLINE void store_blocks(const Wide (&c)[4], std::uint32_t* out) {
    constexpr std::make_integer_sequence<int, kBlocks> lanes;
    Doubles rows[4];
    for (int i = 0; i < 4; ++i) rows[i] = bits<Doubles>(c[i]);
    part_halves<double, 2>(rows[0], rows[1], lanes);
    part_halves<double, 2>(rows[2], rows[3], lanes);
    std::swap(rows[1], rows[2]);
    transpose_units<double, 4, 2>(rows, 1);
    for (int i = 0; i < 4; ++i) store(out + 2 * kBlocks * i, rows[i]);
}
#endif

// Replaces counters by the blocks of that number. `Count` independent ones fill the time until a product is there.
template <class T, int Count>
APR_INLINE void scramble(T (&counters)[Count][4], const std::uint64_t (&key)[2]) {
    constexpr std::uint64_t factor[2] = {0xD2E7470EE14C6C93u, 0xCA5A826395121157u};
    constexpr std::uint64_t step[2] = {0x9E3779B97F4A7C15u, 0xBB67AE8584CAA73Bu};
    T k[2] = {T{} + key[0], T{} + key[1]};
    for (int round = 0; round < 10; ++round) {
        for (T (&c)[4] : counters) {
            const Product<T> a = multiply(c[0], factor[0]);
            const Product<T> b = multiply(c[2], factor[1]);
            c[0] = b.high ^ c[1] ^ k[0];
            c[1] = b.low;
            c[2] = a.high ^ c[3] ^ k[1];
            c[3] = a.low;
        }
        k[0] += step[0];
        k[1] += step[1];
    }
}

}  // namespace

void Philox::words(int field, std::uint64_t first, std::size_t blocks, std::uint32_t* out) const {
    const std::uint64_t of_field = static_cast<std::uint64_t>(field);
    std::size_t block = 0;
#if defined(__AVX512F__)
    for (; block + 2 * kBlocks <= blocks; block += 2 * kBlocks) {
        const Wide counters = kAscending<std::uint64_t> + (first + block + 1);
        const Wide fields = Wide{} + of_field, images = Wide{} + image;
        Wide c[2][4] = {{counters, fields, images}, {counters + kBlocks, fields, images}};
        scramble(c, key);
        store_blocks(c[0], out + kWordsOfBlock * block);
        store_blocks(c[1], out + kWordsOfBlock * (block + kBlocks));
    }
#endif
    for (; block < blocks; ++block) {
        std::uint64_t c[1][4] = {{first + block + 1, of_field, image, 0}};
        scramble(c, key);
        for (int i = 0; i < 4; ++i) {
            out[kWordsOfBlock * block + 2 * i] = static_cast<std::uint32_t>(c[0][i]);
            out[kWordsOfBlock * block + 2 * i + 1] = static_cast<std::uint32_t>(c[0][i] >> 32);
        }
    }
}

}  // namespace apr
