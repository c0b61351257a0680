/* The loops of exact sums; `portable.py` has the same in numpy, with the same bits, and says what each is for.
 *
 * Only IEEE additions, multiplications and divisions in a fixed order, so every compiler and processor gives the
 * same bits: compile with -ffp-contract=off, never with -ffast-math. Integers are added as unsigned (they wrap).
 * Nothing is allocated and no error is kept. Buffers of callers may lie at any byte offset.
 */

#include <float.h>
#include <stddef.h>
#include <stdint.h>

#if FLT_EVAL_METHOD != 0 || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || !defined(__SIZEOF_INT128__)
#error "needs plain IEEE arithmetic, little-endian integers and 128-bit integers"
#endif
#ifdef __FAST_MATH__
#error "-ffast-math changes bits"
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* As they lie in callers' buffers: unaligned, and read as whatever they are. */
typedef float f32 __attribute__((aligned(1), may_alias));
typedef uint8_t u8 __attribute__((may_alias));
typedef uint16_t u16 __attribute__((aligned(1), may_alias));
typedef uint32_t u32 __attribute__((aligned(1), may_alias));
typedef int64_t i64 __attribute__((aligned(1), may_alias));
typedef uint64_t u64 __attribute__((aligned(1), may_alias));
typedef unsigned __int128 u128;
typedef __int128 i128;

enum { HIGH_BITS = 30, LOW_BITS = 75, RATIO = LOW_BITS - HIGH_BITS };
enum { BLOCK = 4096 };   /* elements of a packed block, and of a row of squares */
enum { PIECE = 512 };    /* elements of temporaries */
enum { WIDE = 16 };      /* bytes of an element as two limbs */
enum { MOST_TRAILING = 106 };
#define HIGH_MAGIC 6291456.0               /* 1.5 * 2^(52 - 30) */
#define LOW_MAGIC 0x1.8p-23                /* 1.5 * 2^(52 - 75) */
#define HALF ((uint64_t)1 << (RATIO - 1))
#define MASK (((uint64_t)1 << RATIO) - 1)

#define EXPORT __attribute__((visibility("default")))
#define BODY static inline __attribute__((always_inline))

/* -- which processor ------------------------------------------------------------------------------------ */

/* By hand: `target_clones` and `__builtin_cpu_supports` need parts of a run-time library not every compiler has. */
#if defined(__x86_64__)
#include <cpuid.h>
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx2,avx512f,avx512dq,avx512vl,avx512bw")))

static int level_of_this_processor(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
        return 0;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* what the operating system saves */
    if ((low & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2))
        return 0;
    unsigned needed = bit_AVX512F | bit_AVX512DQ | bit_AVX512VL | bit_AVX512BW;
    return (low & 0xe6) == 0xe6 && (b & needed) == needed ? 2 : 1;
}

static int level;
__attribute__((constructor)) static void look(void) { level = level_of_this_processor(); }

/* Less than what there is, for tests. Returns what is used now. */
EXPORT int elf_level(int most)
{
    int there = level_of_this_processor();
    return level = most < there ? most : there;
}

#define FUNCTION(result, name, parameters, arguments)                                          \
    AVX512 static result name##_avx512 parameters { return name##_body arguments; }            \
    AVX2 static result name##_avx2 parameters { return name##_body arguments; }                \
    static result name##_plain parameters { return name##_body arguments; }                    \
    EXPORT result elf_##name parameters                                                        \
    {                                                                                          \
        return level == 2   ? name##_avx512 arguments                                          \
               : level == 1 ? name##_avx2 arguments                                            \
                            : name##_plain arguments;                                          \
    }
#else
EXPORT int elf_level(int most) { return 0 * most; }

#define FUNCTION(result, name, parameters, arguments) \
    EXPORT result elf_##name parameters { return name##_body arguments; }
#endif

/* Raised with every change of a function's meaning: a library left over from another version is not used. */
EXPORT int elf_version(void) { return 3; }

/* -- small things --------------------------------------------------------------------------------------- */

BODY uint64_t bits_of(double x)
{
    union { double x; uint64_t bits; } both = {.x = x};
    return both.bits;
}

BODY double double_of(uint64_t bits)
{
    union { uint64_t bits; double x; } both = {.bits = bits};
    return both.x;
}

BODY float float_of(uint32_t bits)
{
    union { uint32_t bits; float x; } both = {.bits = bits};
    return both.x;
}

/* Nearest double: its two halves are exact, so their sum is rounded once. No vector of AVX2 can convert 64 bits. */
BODY double rounded(int64_t value)
{
    const uint64_t pattern = 0x4338000000000000; /* of 1.5 * 2^52 */
    uint64_t upper = (uint64_t)(value >> 32), lower = (uint64_t)value & 0xffffffff;
    double high = double_of(upper + pattern) - 0x1.8p52, low = double_of(lower + pattern) - 0x1.8p52;
    return high * 0x1p32 + low;
}

BODY int length_of(uint64_t x) { return x ? 64 - __builtin_clzll(x) : 0; }
BODY size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* -- folding -------------------------------------------------------------------------------------------- */

BODY uint32_t largest_body(const u32 *restrict values, size_t n)
{
    int32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t x = (int32_t)(values[i] & 0x7fffffff);
        most = x > most ? x : most;
    }
    return (uint32_t)most;
}
FUNCTION(uint32_t, largest, (const u32 *restrict values, size_t n), (values, n))

BODY uint32_t largest_half_body(const u16 *restrict values, size_t n)
{
    int16_t most = 0;
    for (size_t i = 0; i < n; i++) {
        int16_t x = (int16_t)(values[i] & 0x7fff);
        most = x > most ? x : most;
    }
    return (uint32_t)most << 16;
}
FUNCTION(uint32_t, largest_half, (const u16 *restrict values, size_t n), (values, n))

/* `fresh`: the limbs hold nothing yet, whatever lies there. Callers pass a constant, for a loop of its own. */
BODY void increase(int fresh, i64 *limb, uint64_t more)
{
    *limb = (int64_t)(fresh ? more : (uint64_t)*limb + more);
}

BODY void fold_one(int fresh, double wide, i64 *high, i64 *low)
{
    double top = wide + HIGH_MAGIC;
    increase(fresh, high, bits_of(top));
    top -= HIGH_MAGIC;
    wide -= top;
    wide += LOW_MAGIC;
    increase(fresh, low, bits_of(wide));
}

BODY void fold_body(const f32 *restrict values, size_t n, i64 *restrict high, i64 *restrict low, int fresh)
{
    for (size_t i = 0; fresh && i < n; i++)
        fold_one(1, values[i], high + i, low + i);
    for (size_t i = 0; !fresh && i < n; i++)
        fold_one(0, values[i], high + i, low + i);
}
FUNCTION(void, fold, (const f32 *restrict values, size_t n, i64 *restrict high, i64 *restrict low, int fresh),
         (values, n, high, low, fresh))

BODY void fold_half_body(const u16 *restrict values, size_t n, i64 *restrict high, i64 *restrict low, int fresh)
{
    for (size_t i = 0; fresh && i < n; i++)
        fold_one(1, float_of((uint32_t)values[i] << 16), high + i, low + i);
    for (size_t i = 0; !fresh && i < n; i++)
        fold_one(0, float_of((uint32_t)values[i] << 16), high + i, low + i);
}
FUNCTION(void, fold_half,
         (const u16 *restrict values, size_t n, i64 *restrict high, i64 *restrict low, int fresh),
         (values, n, high, low, fresh))

BODY void settle_body(i64 *restrict high, i64 *restrict low, size_t n, int64_t more_high, int64_t more_low)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t rest = (uint64_t)low[i] - (uint64_t)more_low;
        int64_t carry = (int64_t)(rest + HALF) >> RATIO;
        low[i] = (int64_t)(rest - ((uint64_t)carry << RATIO));
        high[i] = (int64_t)((uint64_t)high[i] - (uint64_t)more_high + (uint64_t)carry);
    }
}
FUNCTION(void, settle,
         (i64 *restrict high, i64 *restrict low, size_t n, int64_t more_high, int64_t more_low),
         (high, low, n, more_high, more_low))

BODY void merge_body(i64 *restrict high, i64 *restrict low, size_t n, const i64 *restrict other_high,
                     const i64 *restrict other_low)
{
    for (size_t i = 0; i < n; i++) {
        high[i] = (int64_t)((uint64_t)high[i] + (uint64_t)other_high[i]);
        low[i] = (int64_t)((uint64_t)low[i] + (uint64_t)other_low[i]);
    }
}
FUNCTION(void, merge,
         (i64 *restrict high, i64 *restrict low, size_t n, const i64 *restrict other_high,
          const i64 *restrict other_low),
         (high, low, n, other_high, other_low))

BODY int within_body(const i64 *restrict values, size_t n, int64_t most)
{
    int64_t low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t x = values[i];
        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    return low >= -most && high <= most;
}
FUNCTION(int, within, (const i64 *restrict values, size_t n, int64_t most), (values, n, most))

/* -- norms and means ------------------------------------------------------------------------------------ */

BODY void squares_body(const f32 *restrict values, size_t n, double *restrict row)
{
    for (size_t i = 0; i < n; i++) {
        double x = values[i];
        row[i] += x * x;
    }
}

BODY double halves_body(double *row)
{
    for (size_t half = BLOCK / 2; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            row[i] += row[half + i];
    return row[0];
}

BODY double norm2_body(const f32 *restrict values, size_t n)
{
    double row[BLOCK] = {0};
    for (size_t at = 0; at < n; at += BLOCK)
        squares_body(values + at, smaller(BLOCK, n - at), row);
    return halves_body(row);
}
FUNCTION(double, norm2, (const f32 *restrict values, size_t n), (values, n))

BODY void mean_body(const i64 *restrict high, const i64 *restrict low, size_t n, double weight,
                    f32 *restrict mean)
{
    for (size_t i = 0; i < n; i++) {
        double total = rounded(high[i]) * 0x1p-30;
        total += rounded(low[i]) * 0x1p-75;
        mean[i] = (float)(total / weight);
    }
}

FUNCTION(void, mean,
         (const i64 *restrict high, const i64 *restrict low, size_t n, double weight, f32 *restrict mean),
         (high, low, n, weight, mean))

/* A piece of the mean, which starts at element `at`: to `mean`, if there is one, and its squares into `row`. */
BODY void take_piece(const i64 *restrict high, const i64 *restrict low, size_t at, size_t n, double weight,
                     f32 *restrict mean, size_t counted, double *restrict row)
{
    float piece[PIECE];
    f32 *out = mean ? mean + at : (f32 *)piece;
    mean_body(high, low, n, weight, out);
    if (at < counted)
        squares_body(out, smaller(n, counted - at), row + at % BLOCK);
}

/* -- packing -------------------------------------------------------------------------------------------- */

typedef struct { int width, trailing; } Form;

/* The one form that a block of canonical limbs has. */
BODY Form form_of_body(const i64 *restrict high, const i64 *restrict low, size_t n)
{
    uint64_t any_high = 0, any_low = 0, more_high = 0, more_low = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t h = (uint64_t)high[i] + (uint64_t)(low[i] >> RATIO), l = (uint64_t)low[i] & MASK;
        uint64_t sign = (uint64_t)((int64_t)h >> 63);
        any_high |= h, any_low |= l;
        more_high |= h ^ sign, more_low |= l ^ (sign & MASK);
    }
    Form form = {0, 0};
    if (!any_high && !any_low)
        return form;
    form.trailing = any_low ? __builtin_ctzll(any_low) : RATIO + __builtin_ctzll(any_high);
    int bits = more_high ? RATIO + length_of(more_high) : length_of(more_low);
    form.width = (bits - form.trailing + 8) / 8;
    if (form.width > 8)
        form = (Form){WIDE, 0};
    return form;
}

BODY void shift_right_body(const i64 *restrict high, const i64 *restrict low, size_t n, int trailing,
                           i64 *restrict out)
{
    if (trailing < RATIO)
        for (size_t i = 0; i < n; i++)
            out[i] = (int64_t)(((uint64_t)high[i] << (RATIO - trailing)) + (uint64_t)(low[i] >> trailing));
    else
        for (size_t i = 0; i < n; i++)
            out[i] = high[i] >> (trailing - RATIO);
}

BODY void shift_left_body(const i64 *restrict values, size_t n, int trailing, i64 *restrict high,
                          i64 *restrict low)
{
    if (trailing < RATIO)
        for (size_t i = 0; i < n; i++) {
            int64_t top = ((values[i] >> (RATIO - 1 - trailing)) + 1) >> 1;
            high[i] = top;
            low[i] = (int64_t)(((uint64_t)values[i] - ((uint64_t)top << (RATIO - trailing))) << trailing);
        }
    else
        for (size_t i = 0; i < n; i++) {
            high[i] = (int64_t)((uint64_t)values[i] << (trailing - RATIO));
            low[i] = 0;
        }
}

/* A block of `n` elements of `width` bytes: the lowest 4 bytes of all, then the next 2, then the last one. */
#define EACH_WIDTH(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)

BODY void write_planes(int width, const i64 *restrict values, size_t block, size_t at, size_t n, u8 *restrict out)
{
    if (width == 8) {
        i64 *all = (i64 *)out + at;
        for (size_t i = 0; i < n; i++)
            all[i] = values[i];
        return;
    }
    u32 *fours = (u32 *)out + at;
    u16 *twos = (u16 *)(out + (width & 4) * block) + at;
    u8 *ones = out + (width & 6) * block + at;
    if (width & 4)
        for (size_t i = 0; i < n; i++)
            fours[i] = (uint32_t)values[i];
    if (width & 2)
        for (size_t i = 0; i < n; i++)
            twos[i] = (uint16_t)(values[i] >> 8 * (width & 4));
    if (width & 1)
        for (size_t i = 0; i < n; i++)
            ones[i] = (uint8_t)(values[i] >> 8 * (width & 6));
}

/* Element `i` of such a block, whose planes begin at these addresses. */
BODY int64_t read_element(int width, const u8 *restrict in, size_t block, size_t i)
{
    if (width == 8)
        return ((const i64 *)in)[i];
    uint64_t x = 0;
    if (width & 4)
        x |= ((const u32 *)in)[i];
    if (width & 2)
        x |= (uint64_t)((const u16 *)(in + (width & 4) * block))[i] << 8 * (width & 4);
    if (width & 1)
        x |= (uint64_t)(in + (width & 6) * block)[i] << 8 * (width & 6);
    return (int64_t)(x << (64 - 8 * width)) >> (64 - 8 * width);
}

BODY void read_planes(int width, const u8 *restrict in, size_t block, size_t at, size_t n, i64 *restrict values)
{
    for (size_t i = 0; i < n; i++)
        values[i] = read_element(width, in, block, at + i);
}

BODY void merge_planes(int fresh, int width, const u8 *restrict in, size_t n, int trailing, i64 *restrict high,
                       i64 *restrict low)
{
    if (trailing < RATIO)
        for (size_t i = 0; i < n; i++) {
            int64_t value = read_element(width, in, n, i), top = ((value >> (RATIO - 1 - trailing)) + 1) >> 1;
            uint64_t rest = ((uint64_t)value - ((uint64_t)top << (RATIO - trailing))) << trailing;
            increase(fresh, high + i, (uint64_t)top);
            increase(fresh, low + i, rest);
        }
    else
        for (size_t i = 0; i < n; i++) {
            uint64_t value = (uint64_t)read_element(width, in, n, i);
            increase(fresh, high + i, value << (trailing - RATIO));
            increase(fresh, low + i, 0);
        }
}

/* Of a width that has planes; another is left alone. */
BODY void merge_narrow(int fresh, int width, const u8 *restrict in, size_t n, int trailing, i64 *restrict high,
                       i64 *restrict low)
{
    switch (width) {
#define CASE(w) case w: merge_planes(fresh, w, in, n, trailing, high, low); break;
        EACH_WIDTH(CASE)
#undef CASE
    }
}

typedef struct { uint64_t any; int64_t low, high; } Reach;

BODY Reach reach_of_planes(int width, const u8 *restrict in, size_t n)
{
    uint64_t any = 0;
    int64_t low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t value = read_element(width, in, n, i);
        any |= (uint64_t)value;
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    return (Reach){any, low, high};
}

BODY void write_block(Form form, const i64 *restrict high, const i64 *restrict low, size_t n, u8 *restrict out)
{
    i64 *wide = (i64 *)out;
    for (size_t i = 0; form.width == WIDE && i < n; i++)
        wide[i] = high[i];
    for (size_t i = 0; form.width == WIDE && i < n; i++)
        wide[n + i] = low[i];
    for (size_t at = 0; form.width && form.width <= 8 && at < n; at += PIECE) {
        int64_t values[PIECE];
        size_t k = smaller(PIECE, n - at);
        shift_right_body(high + at, low + at, k, form.trailing, (i64 *)values);
        switch (form.width) {
#define CASE(w) case w: write_planes(w, (i64 *)values, n, at, k, out); break;
            EACH_WIDTH(CASE)
#undef CASE
        }
    }
}

BODY void read_piece(int width, const u8 *restrict in, size_t block, size_t at, size_t n, i64 *restrict values)
{
    switch (width) {
#define CASE(w) case w: read_planes(w, in, block, at, n, values); break;
        EACH_WIDTH(CASE)
#undef CASE
    }
}

/* Subtract the constants and carry, as `settle`, and pack into `out`; its length. A block is in the cache but once. */
BODY size_t pack_body(i64 *restrict high, i64 *restrict low, size_t n, int64_t more_high, int64_t more_low,
                      u8 *restrict out)
{
    u8 *header = out, *body = out + 2 * ((n + BLOCK - 1) / BLOCK);
    for (size_t start = 0; start < n; start += BLOCK, header += 2) {
        size_t block = smaller(BLOCK, n - start);
        settle_body(high + start, low + start, block, more_high, more_low);
        Form form = form_of_body(high + start, low + start, block);
        header[0] = (uint8_t)form.width, header[1] = (uint8_t)form.trailing;
        write_block(form, high + start, low + start, block, body);
        body += block * (size_t)form.width;
    }
    return (size_t)(body - out);
}
FUNCTION(size_t, pack,
         (i64 *restrict high, i64 *restrict low, size_t n, int64_t more_high, int64_t more_low, u8 *restrict out),
         (high, low, n, more_high, more_low, out))

enum { FINE, WRONG_SIZE, BAD_HEADER, NOT_CANONICAL, OUT_OF_BOUND };

/* Whether a packed sum has the length that its headers say: nothing else keeps reads within the payload. */
static int check_length(const u8 *payload, size_t bytes, size_t n)
{
    size_t blocks = (n + BLOCK - 1) / BLOCK, needed = 2 * blocks;
    if (bytes < needed)
        return WRONG_SIZE;
    for (size_t i = 0; i < blocks; i++) {
        int width = payload[2 * i], trailing = payload[2 * i + 1];
        if ((width > 8 && width != WIDE) || trailing > MOST_TRAILING || ((!width || width == WIDE) && trailing))
            return BAD_HEADER;
        needed += (size_t)width * smaller(BLOCK, n - i * BLOCK);
    }
    return needed == bytes ? FINE : WRONG_SIZE;
}

BODY int check_limbs(const i64 *restrict high, const i64 *restrict low, size_t n, u128 most)
{
    for (size_t i = 0; i < n; i++)
        if (low[i] < -(int64_t)HALF || low[i] >= (int64_t)HALF)
            return NOT_CANONICAL;
    for (size_t i = 0; i < n; i++) {
        i128 value = (i128)high[i] * ((i128)1 << RATIO) + low[i];
        if ((u128)(value < 0 ? -value : value) > most)
            return OUT_OF_BOUND;
    }
    return form_of_body(high, low, n).width == WIDE ? FINE : NOT_CANONICAL;
}

BODY int check_planes(Form form, const u8 *restrict in, size_t n, u128 most)
{
    Reach found = {0, 0, 0};
    switch (form.width) {
#define CASE(w) case w: found = reach_of_planes(w, in, n); break;
        EACH_WIDTH(CASE)
#undef CASE
    }
    uint64_t below = -(uint64_t)found.low, above = (uint64_t)found.high; /* the former may be 2^63 */
    uint64_t reach = below > above ? below - 1 : above;
    if (!(found.any & 1) || (length_of(reach) + 8) / 8 != form.width)
        return NOT_CANONICAL;
    uint64_t largest = below > above ? below : above;
    return largest <= most >> form.trailing ? FINE : OUT_OF_BOUND;
}

BODY int check_packed_body(const u8 *restrict payload, size_t bytes, size_t n, uint64_t bound)
{
    int trouble = check_length(payload, bytes, n);
    const u8 *header = payload, *body = payload + 2 * ((n + BLOCK - 1) / BLOCK);
    for (size_t start = 0; !trouble && start < n; start += BLOCK, header += 2) {
        size_t block = smaller(BLOCK, n - start);
        Form form = {header[0], header[1]};
        if (form.width == WIDE)
            trouble = check_limbs((const i64 *)body, (const i64 *)body + block, block, (u128)bound << LOW_BITS);
        else if (form.width)
            trouble = check_planes(form, body, block, (u128)bound << LOW_BITS);
        body += block * (size_t)form.width;
    }
    return trouble;
}
FUNCTION(int, check_packed, (const u8 *restrict payload, size_t bytes, size_t n, uint64_t bound),
         (payload, bytes, n, bound))

BODY void clear(i64 *restrict high, i64 *restrict low, size_t n)
{
    for (size_t i = 0; i < n; i++)
        high[i] = 0;
    for (size_t i = 0; i < n; i++)
        low[i] = 0;
}

/* Adds what was packed. WRONG_SIZE or BAD_HEADER, with nothing changed, for what `check_packed` would refuse so. */
BODY int merge_packed_body(const u8 *restrict payload, size_t bytes, size_t n, i64 *restrict high,
                           i64 *restrict low, int fresh)
{
    int trouble = check_length(payload, bytes, n);
    const u8 *header = payload, *body = payload + 2 * ((n + BLOCK - 1) / BLOCK);
    for (size_t start = 0; !trouble && start < n; start += BLOCK, header += 2) {
        size_t block = smaller(BLOCK, n - start);
        int narrow = header[0] && header[0] != WIDE;
        if (fresh && !narrow)
            clear(high + start, low + start, block);
        if (header[0] == WIDE)
            merge_body(high + start, low + start, block, (const i64 *)body, (const i64 *)body + block);
        else if (fresh)
            merge_narrow(1, header[0], body, block, header[1], high + start, low + start);
        else
            merge_narrow(0, header[0], body, block, header[1], high + start, low + start);
        body += block * (size_t)header[0];
    }
    return trouble;
}
FUNCTION(int, merge_packed,
         (const u8 *restrict payload, size_t bytes, size_t n, i64 *restrict high, i64 *restrict low, int fresh),
         (payload, bytes, n, high, low, fresh))

/* As `mean`, of what was packed, and the squares of `counted` elements. Negative, with nothing written, for another length than the headers say. */
BODY double mean_packed_body(const u8 *restrict payload, size_t bytes, size_t n, double weight,
                             f32 *restrict mean, size_t counted)
{
    if (check_length(payload, bytes, n))
        return -1.0;
    double row[BLOCK] = {0};
    const u8 *header = payload, *body = payload + 2 * ((n + BLOCK - 1) / BLOCK);
    for (size_t start = 0; start < n; start += BLOCK, header += 2) {
        size_t block = smaller(BLOCK, n - start);
        const i64 *wide = (const i64 *)body;
        for (size_t at = 0; at < block; at += PIECE) {
            int64_t values[PIECE] = {0}, high[PIECE], low[PIECE];
            size_t k = smaller(PIECE, block - at);
            if (header[0] == WIDE) {
                take_piece(wide + at, wide + block + at, start + at, k, weight, mean, counted, row);
                continue;
            }
            read_piece(header[0], body, block, at, k, (i64 *)values);
            shift_left_body((i64 *)values, k, header[1], (i64 *)high, (i64 *)low);
            take_piece((i64 *)high, (i64 *)low, start + at, k, weight, mean, counted, row);
        }
        body += block * (size_t)header[0];
    }
    return halves_body(row);
}
FUNCTION(double, mean_packed,
         (const u8 *restrict payload, size_t bytes, size_t n, double weight, f32 *restrict mean, size_t counted),
         (payload, bytes, n, weight, mean, counted))
