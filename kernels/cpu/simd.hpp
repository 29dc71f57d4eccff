// Portable SIMD: vectors of the width this file is compiled for, by the vector extensions of GCC and Clang.
//
// Everything else is written against these types and helpers; the only places that call an instruction by its name are at
// the end: conversions, products of 16 bits and orders, which the compilers would make lane by lane. The build never
// contracts a·b + c into one rounding by itself (-ffp-contract=off), so that equal code gives equal bits wherever it is
// inlined; `fma` asks for it where it is wanted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

// The arithmetic is spread over many small functions; a single one of them left as a call costs a tenth of the speed.
#define APR_INLINE [[gnu::always_inline]] inline
#define APR_LAMBDA __attribute__((always_inline))  // the same after the parameters of a lambda

namespace apr {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <class T, int Bytes>
struct VectorType {
    typedef T type __attribute__((vector_size(Bytes)));
};
template <class T, int Bytes = kVectorBytes>
using Vector = typename VectorType<T, Bytes>::type;

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// The integer of the same width, which the comparison of two vectors gives lane by lane.
template <class T>
struct IntegerLike;
template <>
struct IntegerLike<float> {
    using type = std::int32_t;
};
template <>
struct IntegerLike<double> {
    using type = std::int64_t;
};
template <class T>
using Integers = Vector<typename IntegerLike<T>::type>;

template <class To, class From>
APR_INLINE To bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To out;
    std::memcpy(&out, &value, sizeof(To));
    return out;
}

template <class T>
APR_INLINE Vector<T> broadcast(T value) {
    // Taking away 0 changes no number. A loop over lanes becomes an instruction a lane from 16 lanes on.
    return value - Vector<T>{};
}

// 0, 1, 2, ... in the lanes.
template <class T, int... Lane>
constexpr Vector<T> ascending(std::integer_sequence<int, Lane...>) {
    return Vector<T>{static_cast<T>(Lane)...};
}
template <class T>
inline constexpr Vector<T> kAscending = ascending<T>(std::make_integer_sequence<int, kLanes<T>>{});

template <class T>
APR_INLINE Vector<T> load(const T* from) {
    Vector<T> out;
    std::memcpy(&out, from, sizeof(out));
    return out;
}

template <class V, class To>
APR_INLINE void store(To* to, V value) {
    std::memcpy(to, &value, sizeof(value));
}

// a·b + c: one rounding where the instruction set has it, two where a library call would have to emulate it. The
// compilers turn the loops over lanes of this file into one instruction.
APR_INLINE float fma_lane(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}
APR_INLINE double fma_lane(double a, double b, double c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fma(a, b, c);
#else
    return a * b + c;
#endif
}
APR_INLINE float sqrt_lane(float a) { return __builtin_sqrtf(a); }
APR_INLINE double sqrt_lane(double a) { return __builtin_sqrt(a); }

template <class V>
APR_INLINE V fma(V a, V b, V c) {
    V out;
    for (int lane = 0; lane < kVectorBytes / static_cast<int>(sizeof(a[0])); ++lane) {
        out[lane] = fma_lane(a[lane], b[lane], c[lane]);
    }
    return out;
}

template <class V>
APR_INLINE V square_root(V a) {
    V out;
    for (int lane = 0; lane < kVectorBytes / static_cast<int>(sizeof(a[0])); ++lane) out[lane] = sqrt_lane(a[lane]);
    return out;
}

// The copy is spelt out: left to itself, GCC copies the structure in pieces of 16 bytes by way of memory.
template <class T>
struct Complex {
    Vector<T> re, im;

    Complex() = default;
    APR_INLINE Complex(Vector<T> real, Vector<T> imaginary) : re(real), im(imaginary) {}
    APR_INLINE Complex(const Complex& from) : re(from.re), im(from.im) {}
    APR_INLINE Complex& operator=(const Complex& from) {
        re = from.re;
        im = from.im;
        return *this;
    }
};

// A transposition takes two steps of one kind, within pieces of 16 bytes and of whole pieces: their shuffles are
// instructions that hold their pattern. Others take it from registers, and those run short.

// In every `Region` lanes: the first halves of a and b side by side, and the second ones.
template <class T, int Region, int... Lane>
APR_INLINE void part_halves(Vector<T>& a, Vector<T>& b, std::integer_sequence<int, Lane...>) {
    constexpr int half = Region / 2;
    constexpr auto source = [](int lane) { return lane / Region * Region + lane % half + lane / half % 2 * kLanes<T>; };
    const Vector<T> first = __builtin_shufflevector(a, b, source(Lane)...);
    b = __builtin_shufflevector(a, b, (source(Lane) + half)...);
    a = first;
}

// In every four units of `Unit` lanes: units 0 and 2 of a and b side by side, and units 1 and 3.
template <class T, int Unit, int... Lane>
APR_INLINE void part_units(Vector<T>& a, Vector<T>& b, std::integer_sequence<int, Lane...>) {
    constexpr auto source = [](int lane) {
        return lane / (4 * Unit) * (4 * Unit) + lane / Unit % 2 * (2 * Unit) + lane % Unit +
               lane / (2 * Unit) % 2 * kLanes<T>;
    };
    const Vector<T> even = __builtin_shufflevector(a, b, source(Lane)...);
    b = __builtin_shufflevector(a, b, (source(Lane) + Unit)...);
    a = even;
}

// `Count` rows, `apart` from each other, of as many units in every Count·Unit lanes.
template <class T, int Count, int Unit>
APR_INLINE void transpose_units(Vector<T>* rows, int apart) {
    constexpr std::make_integer_sequence<int, kLanes<T>> lanes;
    Vector<T>&a = rows[0], &b = rows[apart];
    if constexpr (Count == 2) part_halves<T, 2 * Unit>(a, b, lanes);
    if constexpr (Count == 4) {
        Vector<T>&c = rows[2 * apart], &d = rows[3 * apart];
        part_halves<T, 4 * Unit>(a, b, lanes);
        part_halves<T, 4 * Unit>(c, d, lanes);
        part_units<T, Unit>(a, c, lanes);
        part_units<T, Unit>(b, d, lanes);
        std::swap(b, c);
    }
}

// kLanes rows of as many lanes.
template <class T>
APR_INLINE void transpose(Vector<T>* rows) {
    constexpr int piece = 16 / sizeof(T);
    constexpr int pieces = kLanes<T> / piece;
    for (int i = 0; i < kLanes<T>; i += piece) transpose_units<T, piece, 1>(rows + i, 1);
    for (int i = 0; i < piece && pieces > 1; ++i) transpose_units<T, pieces, piece>(rows + i, piece);
}

// kLanes complex vectors transposed, the real parts before the imaginary ones: those of one kind fit the registers.
template <class T, Vector<T> Complex<T>::*Part>
APR_INLINE void transpose_part_to(const Complex<T>* from, Complex<T>* to, const int* place) {
    Vector<T> square[kLanes<T>];
    for (int i = 0; i < kLanes<T>; ++i) square[i] = from[i].*Part;
    transpose<T>(square);
    for (int i = 0; i < kLanes<T>; ++i) to[place[i]].*Part = square[i];
}
template <class T>
APR_INLINE void transpose_to(const Complex<T>* from, Complex<T>* to, const int* place) {
    transpose_part_to<T, &Complex<T>::re>(from, to, place);
    transpose_part_to<T, &Complex<T>::im>(from, to, place);
}
template <class T, Vector<T> Complex<T>::*Part>
APR_INLINE void transpose_part_from(const Complex<T>* from, const int* place, Complex<T>* to) {
    Vector<T> square[kLanes<T>];
    for (int i = 0; i < kLanes<T>; ++i) square[i] = from[place[i]].*Part;
    transpose<T>(square);
    for (int i = 0; i < kLanes<T>; ++i) to[i].*Part = square[i];
}
template <class T>
APR_INLINE void transpose_from(const Complex<T>* from, const int* place, Complex<T>* to) {
    transpose_part_from<T, &Complex<T>::re>(from, place, to);
    transpose_part_from<T, &Complex<T>::im>(from, place, to);
}

// The two halves of a longer vector, and the longer vector of two halves.
template <class V, int... Lane>
APR_INLINE auto join(V a, V b, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(a, b, Lane...);
}
template <int First, class V, int... Lane>
APR_INLINE auto part(V whole, std::integer_sequence<int, Lane...>) {
    return __builtin_shufflevector(whole, whole, (First + Lane)...);
}

using Floats = Vector<float>;
using Ints = Vector<std::int32_t>;
using Halves = Vector<std::uint16_t, kVectorBytes / 2>;

// float32 as the bits of bfloat16, to nearest, ties to even; NaN stays NaN.
APR_INLINE Halves to_bfloat16(Floats value) {
    const Ints word = bits<Ints>(value);
    const Ints rounded = word + 0x7fff + ((word >> 16) & 1);
    const Ints quiet = word | 0x400000;
    return __builtin_convertvector((value == value ? rounded : quiet) >> 16, Halves);
}

#if defined(__AVX512F__)
APR_INLINE Halves to_half(Floats value) {
    // With a mask of all lanes: GCC 12 warns of the lanes that the plain one leaves open, and there are none.
    return bits<Halves>(_mm512_maskz_cvtps_ph(0xffff, bits<__m512>(value), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__) && defined(__F16C__)
APR_INLINE Halves to_half(Floats value) { return bits<Halves>(_mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT)); }
#else
// float32 as the bits of float16 in whole-number arithmetic, to nearest, ties to even.
APR_INLINE Halves to_half(Floats value) {
    const Ints word = bits<Ints>(value);
    const Ints sign = (word >> 16) & 0x8000;
    const Ints size = word & 0x7fffffff;
    // Adding 0.5 leaves a subnormal half, which has steps of 2^-24, in the low bits of the sum, rounded by the adder.
    const Ints small = bits<Ints>(bits<Floats>(size) + 0.5f) - 0x3f000000;
    const Ints normal = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13;
    const Ints special = size > 0x7f800000 ? Ints{} + 0x7e00 : Ints{} + 0x7c00;
    const Ints finite = size < 0x38800000 ? small : normal;
    return __builtin_convertvector((size >= 0x477ff000 ? special : finite) | sign, Halves);
}
#endif

using Doubles = Vector<double>;

// kLanes<double> numbers in 0..255 as bytes, truncated.
#if defined(__AVX512F__)
APR_INLINE void store_bytes(std::uint8_t* to, Doubles value) {
    const __m256i whole = _mm512_maskz_cvttpd_epi32(0xff, bits<__m512d>(value));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm256_maskz_cvtepi32_epi8(0xff, whole));
}
#elif defined(__AVX2__)
APR_INLINE void store_bytes(std::uint8_t* to, Doubles value) {
    const __m128i whole = _mm256_cvttpd_epi32(bits<__m256d>(value));
    const __m128i low = _mm_shuffle_epi8(whole, _mm_cvtsi32_si128(0x0c080400));
    const int four = _mm_cvtsi128_si32(low);
    std::memcpy(to, &four, sizeof(four));
}
#else
APR_INLINE void store_bytes(std::uint8_t* to, Doubles value) {
    to[0] = static_cast<std::uint8_t>(value[0]);
    to[1] = static_cast<std::uint8_t>(value[1]);
}
#endif

// a[2i]·b[2i] + a[2i + 1]·b[2i + 1] for the halves of 16 bits, with their signs.
APR_INLINE Ints multiply_pairs(Ints a, Ints b) {
#if defined(__AVX512BW__)
    return bits<Ints>(_mm512_madd_epi16(bits<__m512i>(a), bits<__m512i>(b)));
#elif defined(__AVX2__)
    return bits<Ints>(_mm256_madd_epi16(bits<__m256i>(a), bits<__m256i>(b)));
#elif defined(__SSE2__)
    return bits<Ints>(_mm_madd_epi16(bits<__m128i>(a), bits<__m128i>(b)));
#else
    return (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

// kVectorBytes / 2 bytes as numbers of 16 bits.
APR_INLINE Ints widened(const std::uint8_t* from) {
#if defined(__AVX512BW__)
    return bits<Ints>(_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__AVX2__)
    return bits<Ints>(_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
    Vector<std::uint8_t, kVectorBytes / 2> bytes;
    std::memcpy(&bytes, from, sizeof(bytes));
    return bits<Ints>(__builtin_convertvector(bytes, Vector<std::uint16_t>));
#endif
}

using Sixteen = Vector<std::uint8_t, 16>;

// Sixteen numbers, in as many vectors as they take, as bytes; those out of 0..255 become the nearest of these.
APR_INLINE Sixteen as_levels(const Ints* numbers) {
#if defined(__AVX512F__)
    const __m512i above = _mm512_maskz_max_epi32(0xffff, bits<__m512i>(*numbers), _mm512_setzero_si512());
    return bits<Sixteen>(_mm512_maskz_cvtusepi32_epi8(0xffff, above));
#elif defined(__AVX2__)
    // Packs within halves of 16 bytes, and so comes out of order by fours.
    const __m256i halves = _mm256_packs_epi32(bits<__m256i>(numbers[0]), bits<__m256i>(numbers[1]));
    const __m256i ordered = _mm256_permute4x64_epi64(halves, 0xd8);
    return bits<Sixteen>(_mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
#elif defined(__SSE2__)
    const auto halves = [=](int i) { return _mm_packs_epi32(bits<__m128i>(numbers[i]), bits<__m128i>(numbers[i + 1])); };
    return bits<Sixteen>(_mm_packus_epi16(halves(0), halves(2)));
#else
    Sixteen out;
    for (int i = 0; i < 16; ++i) {
        const int number = numbers[i / kLanes<std::int32_t>][i % kLanes<std::int32_t>];
        out[i] = static_cast<std::uint8_t>(number < 0 ? 0 : number > 255 ? 255 : number);
    }
    return out;
#endif
}

// kLanes<double> numbers of float32 in float64.
APR_INLINE Doubles widened(const float* from) {
#if defined(__AVX512F__)
    return bits<Doubles>(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(from)));
#else
    Vector<float, kVectorBytes / 2> numbers;
    std::memcpy(&numbers, from, sizeof(numbers));
    return __builtin_convertvector(numbers, Doubles);
#endif
}

using FourDoubles = Vector<double, 32>;
APR_INLINE FourDoubles widened(Vector<float, 16> four) {
#if defined(__AVX__)
    return bits<FourDoubles>(_mm256_cvtps_pd(bits<__m128>(four)));
#else
    return __builtin_convertvector(four, FourDoubles);
#endif
}

// ---- kLanes<double> numbers in an order that is a variable. ----

#if defined(__AVX2__)
using LaneOrder = Ints;  // of halves of numbers
#else
using LaneOrder = Integers<double>;
#endif

// order[lane]: the place of the number that comes into the lane, below kLanes<double>.
APR_INLINE LaneOrder lane_order(const int* order) {
    constexpr int pieces = kVectorBytes / static_cast<int>(sizeof(LaneOrder{}[0])) / kLanes<double>;
    LaneOrder out;
    for (int i = 0; i < pieces * kLanes<double>; ++i) out[i] = pieces * order[i / pieces] + i % pieces;
    return out;
}

APR_INLINE Doubles reordered(const double* from, LaneOrder order) {
#if defined(__AVX512F__)
    const __m512 numbers = bits<__m512>(load(from));
    return bits<Doubles>(_mm512_maskz_permutexvar_ps(0xffff, bits<__m512i>(order), numbers));
#elif defined(__AVX2__)
    return bits<Doubles>(_mm256_permutevar8x32_ps(bits<__m256>(load(from)), bits<__m256i>(order)));
#else
    Doubles out;
    for (int lane = 0; lane < kLanes<double>; ++lane) out[lane] = from[order[lane]];
    return out;
#endif
}

}  // namespace apr
