/* Cuts a chunk of separated values into cells, and converts whole columns of them.
 *
 *     bytes ──cut──▶ where each cell ends ──read──▶ numbers
 *                                                   dates, as seconds since 1970
 *                                                   texts, one after the other
 *                                                   codes and the different texts
 *
 * It is strict: what it does not know to be right it refuses, and its caller (cells.py) has
 * pyarrow read the chunk, or the texts of the column judged one by one. It never guesses, never
 * prints, and knows no locale. Nothing is read outside the bytes that it was given.
 *
 * C11 and nothing but the C library's memory functions: any compiler makes the same of it. All
 * arithmetic on numbers is on integers, or one operation that IEEE 754 rounds.
 */

#include <float.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bytes are taken as words");
_Static_assert(FLT_EVAL_METHOD == 0, "numbers are not rounded twice");

/* What stays out of the loops that call it, as they have few registers. */
#define APART static __attribute__((noinline))

typedef const uint8_t *bytes;

enum { REFUSED = -1, NO_MEMORY = -2 };             /* answers of cells_cut */
enum { NUMBERS = 0, DATES = 1, TEXTS = 2, CODES = 3 };  /* kinds of columns */
enum { READ = 0, UNFIT = 1, OUT_OF_MEMORY = 2 };   /* what came of a column */

/* Rows that are converted together, column by column: their bytes stay in the nearest cache. */
enum { ROWS_AT_ONCE = 256 };

/* One cell: the bytes between its quotes, if it has any. `doubled`: quotes within are doubled. */
struct cell {
    bytes start, end;
    bool doubled;
};

/* Where a text of a dictionary is found by its hash. */
struct slot {
    uint64_t hash;
    int32_t place;       /* of the text; -1: none */
    uint32_t length;
};

/* The different texts of a column, in the order in which they come up. */
struct dictionary {
    struct slot *slots;  /* open addressing */
    size_t n_slots;      /* a power of two, */
    int shift;           /* which leaves a hash so many of its upper bits, the well mixed ones */
    size_t count;
    int64_t *counts;     /* how often each text comes up */
    size_t counts_room;
    int32_t *offsets;    /* where each text begins in `texts`, and where the last one ends */
    size_t offsets_room;
    uint8_t *texts;
    size_t length, texts_room;
};

enum { LONGEST_DATE = 32 };                        /* a multiple of eight */

/* A way of writing dates in which every part has its place.
 *
 * Two digits make a number: those of the century, the year in it, month, day, hour, minute and
 * second. One that is not written is at place LONGEST_DATE. */
enum { CENTURY, YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, N_PAIRS };
struct date_layout {
    int32_t length;
    uint8_t tens[N_PAIRS], ones[N_PAIRS];
    uint8_t fraction, n_fraction;    /* where the fraction of the second begins; its digits */
    uint8_t expected[LONGEST_DATE];  /* the sign that stands there, '0' for a digit */
    uint8_t within[LONGEST_DATE];    /* 255 up to the length */
    uint8_t more[LONGEST_DATE];      /* what makes 16 of too large a difference: 6 for a digit */
};

/* What is asked of a column, and what came of it. */
struct column {
    int32_t index;
    int32_t kind;
    int32_t point;       /* decimal mark */
    int32_t state;
    void *out;           /* double (n_rows), int32 offsets (n_rows + 1) or int32 codes (n_rows) */
    const struct date_layout *layouts;  /* for DATES */
    int64_t n_layouts;
    uint8_t *texts;      /* for TEXTS: as many bytes as cells_length told */
    /* Of CODES, valid until the next call: */
    const uint8_t *different;
    const int32_t *offsets;
    const int64_t *counts;
    int64_t count;
};

struct cells {
    bytes data, stop;
    uint8_t quote;
    int64_t width, rows;
    uint32_t *ends;      /* of each cell */
    size_t ends_room;
    uint32_t *starts;    /* of each row */
    size_t starts_room;
    struct dictionary *dictionaries;
    int64_t lines;       /* ends of lines, those within quotes, too */
    bool ascii, nul;     /* no byte above 127; a byte 0 */
    uint64_t seed;
    const uint64_t *powers;  /* 128 bits of each power of five, the upper word first */
    const uint8_t *missing;  /* words for "no value" in capitals, each behind its length; then 0 */
    uint8_t *scratch;
    size_t scratch_room;
};

/* -- memory -------------------------------------------------------------------------------- */

/* Memory with room for at least `needed` things, what it holds kept; NULL: there is none. */
static void *grown(void *memory, size_t *room, size_t needed, size_t size) {
    if (needed <= *room) return memory;
    size_t more = *room + *room / 2 + 64;
    if (more < needed) more = needed;
    void *larger = realloc(memory, more * size);
    if (larger) *room = more;
    return larger;
}

/* Up to eight bytes as a word; what lies beyond them is zero. */
static inline uint64_t word_of(bytes at, size_t length, bytes stop) {
    uint64_t word = 0;
    if ((size_t)(stop - at) >= 8) {
        memcpy(&word, at, 8);
        return length >= 8 ? word : word & ((1ull << 8 * length) - 1);
    }
    memcpy(&word, at, length < 8 ? length : 8);
    return word;
}

/* -- cutting ------------------------------------------------------------------------------- */

/* Which of 64 bytes are a given one, and which are above 127. */
#if defined(__SSE2__)
static inline uint64_t high(bytes at) {
    uint64_t found = 0;
    for (int i = 0; i < 4; i++) {
        __m128i part = _mm_loadu_si128((const __m128i *)(at + 16 * i));
        found |= (uint64_t)(uint32_t)_mm_movemask_epi8(part) << 16 * i;
    }
    return found;
}

static inline uint64_t equal(bytes at, uint8_t byte) {
    const __m128i sought = _mm_set1_epi8((char)byte);
    uint64_t found = 0;
    for (int i = 0; i < 4; i++) {
        __m128i part = _mm_loadu_si128((const __m128i *)(at + 16 * i));
        uint64_t bits = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(part, sought));
        found |= bits << 16 * i;
    }
    return found;
}
#else
static inline uint64_t bits_of(uint64_t marks) { /* the upper bit of each of eight bytes */
    return (marks >> 7) * 0x0102040810204080ull >> 56;
}

static inline uint64_t high(bytes at) {
    uint64_t found = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t word;
        memcpy(&word, at + 8 * i, 8);
        found |= bits_of(word & ~0x7f7f7f7f7f7f7f7full) << 8 * i;
    }
    return found;
}

static inline uint64_t equal(bytes at, uint8_t byte) {
    const uint64_t low = 0x7f7f7f7f7f7f7f7full;
    uint64_t found = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t word;
        memcpy(&word, at + 8 * i, 8);
        word ^= 0x0101010101010101ull * byte;
        uint64_t zero = ~(((word & low) + low) | word | low);
        found |= bits_of(zero) << 8 * i;
    }
    return found;
}
#endif

/* Each bit: the parity of the bits up to and with it. */
static inline uint64_t parity_up_to(uint64_t bits) {
    for (int shift = 1; shift < 64; shift *= 2) bits ^= bits << shift;
    return bits;
}

/* Cut `length` bytes into rows of cells. The caller keeps the bytes until it cuts others.
 * Returns the number of rows; REFUSED if any row has another width, a line but the last ends with
 * CR alone, or a quote stays open, or stands within a cell and is not doubled. Blank lines are no rows.
 * `quote` is 0 where there are none. */
int64_t cells_cut(struct cells *c, bytes data, int64_t length, uint8_t delimiter, uint8_t quote) {
    c->data = data;
    c->stop = data + length;
    c->quote = quote;
    c->rows = 0;
    if (c->width < 1 || length < 0 || length > INT32_MAX) return REFUSED;
    size_t n = 0, row_begins_at = 0; /* cells so far; those of the rows before */
    int64_t returns = 0;             /* CR outside quotes that no LF follows, so far */
    uint32_t row_start = 0;
    uint64_t open = 0;               /* all ones within quotes */
    uint64_t above = 0, nul = 0, stray = 0;
    uint64_t before = 1, closing = 0; /* of the last byte: a quote may follow; a quote that closes */
    c->lines = 0;
    uint8_t last[64];
    for (int64_t base = 0; base <= length; base += 64) {
        bytes block = data + base;
        uint64_t within = ~0ull;
        if (length - base < 64) { /* the end: the last line ends here, if not before */
            within = (1ull << (length - base)) - 1;
            memset(last, 0, sizeof last);
            memcpy(last, block, (size_t)(length - base));
            if (length && data[length - 1] != '\n') last[length - base] = '\n', c->lines--;
            block = last;
        }
        uint64_t outside = ~0ull;
        uint64_t lines = equal(block, '\n'), marks = equal(block, delimiter);
        uint64_t cr = equal(block, '\r');
        if (quote) {
            uint64_t quotes = equal(block, quote), quoted = parity_up_to(quotes) ^ open;
            open = (uint64_t)((int64_t)quoted >> 63);
            outside = ~quoted;
            /* One opens at an edge of a cell or behind one that closed, and closes before those. */
            uint64_t edges = lines | marks | cr | ~within;
            uint64_t opens = quotes & quoted, closes = quotes & outside;
            stray |= opens & ~((edges | closes) << 1 | before);
            stray |= (closes << 1 | closing) & ~(edges | opens);
            before = (edges | closes) >> 63;
            closing = closes >> 63;
        }
        c->lines += __builtin_popcountll(lines);
        above |= high(block);
        nul |= equal(block, 0) & within;
        lines &= outside;
        uint64_t left = lines | (marks & outside);
        returns += __builtin_popcountll(cr & outside);
        uint32_t *ends = grown(c->ends, &c->ends_room, n + 64, sizeof *ends);
        if (!ends) return NO_MEMORY;
        c->ends = ends;
        uint32_t *starts = grown(c->starts, &c->starts_room, (size_t)c->rows + 64, sizeof *starts);
        if (!starts) return NO_MEMORY;
        c->starts = starts;
        for (; left; left &= left - 1) {
            uint32_t at = (uint32_t)__builtin_ctzll(left);
            uint32_t end = (uint32_t)base + at;
            if (!(lines >> at & 1)) {
                ends[n++] = end;
                continue;
            }
            uint32_t next = end + 1;
            if (end > row_start && data[end - 1] == '\r') {
                end--;
                returns--;
            }
            if (end == row_start && n == row_begins_at) { /* a blank line */
                row_start = next;
                continue;
            }
            ends[n++] = end;
            if (n - row_begins_at != (size_t)c->width) return REFUSED;
            starts[c->rows++] = row_start;
            row_start = next;
            row_begins_at = n;
        }
        if (n - row_begins_at > (size_t)c->width) return REFUSED;
    }
    if (returns || open || stray || n != row_begins_at) return REFUSED;
    c->ascii = !above;
    c->nul = nul != 0;
    return c->rows;
}

static inline struct cell cell_at(const struct cells *c, int64_t row, int64_t column) {
    int64_t place = row * c->width + column;
    bytes start = c->data + (column ? c->ends[place - 1] + 1 : c->starts[row]);
    struct cell cell = {start, c->data + c->ends[place], false};
    if (c->quote && cell.end - start >= 2 && *start == c->quote && cell.end[-1] == c->quote) {
        cell.start++;
        cell.end--;
        cell.doubled = memchr(cell.start, c->quote, (size_t)(cell.end - cell.start)) != NULL;
    }
    return cell;
}

int64_t cells_lines(const struct cells *c) { return c->lines; }
bool cells_ascii(const struct cells *c) { return c->ascii; }
bool cells_nul(const struct cells *c) { return c->nul; }

/* At least as many bytes as the texts of a column take together. */
int64_t cells_length(const struct cells *c, int64_t column) {
    int64_t length = 0;
    for (int64_t row = 0; row < c->rows; row++) {
        int64_t place = row * c->width + column;
        length += c->ends[place] - (column ? c->ends[place - 1] + 1 : c->starts[row]);
    }
    return length;
}

/* -- numbers ------------------------------------------------------------------------------- */

enum { SMALLEST_POWER = -342, LARGEST_POWER = 308 };

static const double TENS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* The double nearest to digits * 10**power, by the algorithm of Lemire (Number parsing at a
 * gigabyte per second, 2021). False where it cannot tell, or the number is too large or too small
 * for a normal one. */
APART bool nearest(const struct cells *c, uint64_t digits, int64_t power, double *value) {
    if (digits == 0) {
        *value = 0.0;
        return true;
    }
    if (digits <= 1ull << 53 && power >= -22 && power <= 22) { /* both are exact as doubles */
        *value = power < 0 ? (double)digits / TENS[-power] : (double)digits * TENS[power];
        return true;
    }
    if (power < SMALLEST_POWER || power > LARGEST_POWER) return false;
    const uint64_t *five = c->powers + 2 * (power - SMALLEST_POWER);
    int zeros = __builtin_clzll(digits);
    digits <<= zeros;
    unsigned __int128 product = (unsigned __int128)digits * five[0];
    uint64_t high = (uint64_t)(product >> 64), low = (uint64_t)product;
    if ((high & 0x1ff) == 0x1ff) { /* what is left out may reach the bits that count */
        uint64_t more = (uint64_t)((unsigned __int128)digits * five[1] >> 64);
        low += more;
        high += low < more;
        if (low == UINT64_MAX) return false;
    }
    int carry = (int)(high >> 63);
    int shift = carry + 64 - 52 - 3;
    uint64_t mantissa = high >> shift;
    int64_t exponent = ((217706 * power) >> 16) + 63 + carry - zeros + 1023;
    if (exponent <= 0) return false;
    /* Halfway between two doubles: to the even one. */
    if (low <= 1 && power >= -4 && power <= 23 && (mantissa & 3) == 1 &&
        mantissa << shift == high)
        mantissa--;
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa == 2ull << 52) {
        mantissa = 1ull << 52;
        exponent++;
    }
    if (exponent >= 0x7ff) return false;
    uint64_t bits = (mantissa & ((1ull << 52) - 1)) | (uint64_t)exponent << 52;
    memcpy(value, &bits, sizeof bits);
    return true;
}

static inline bool is_digit(uint8_t byte) { return (uint8_t)(byte - '0') <= 9; }

static const uint64_t ONES = 0x0101010101010101ull, ZEROS = 0x3030303030303030ull;

/* Eight digits as a number; false if one of them is none. */
static inline bool eight_digits(uint64_t word, uint64_t *value) {
    const uint64_t high = 0xf0 * ONES;
    if ((word & high) != ZEROS || ((word + 6 * ONES) & high) != ZEROS) return false;
    word -= ZEROS;
    word = word * 10 + (word >> 8);                       /* pairs, in every other byte */
    const uint64_t pairs = 0x000000ff000000ffull;
    *value = ((word & pairs) * ((1000000ull << 32) + 100) +
              (word >> 16 & pairs) * ((10000ull << 32) + 1)) >> 32;
    return true;
}

/* Which of eight bytes are a given one: the lowest of the bits that are set tells the first. */
static inline uint64_t first_equal(uint64_t word, uint8_t byte) {
    uint64_t other = word ^ ONES * byte;
    return (other - ONES) & ~other & 0x80 * ONES;
}

/* From byte n on: 16 bytes, of which the last n are set, or the first 16 - n. */
static const uint8_t EDGE[48] = {
    [16] = 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

/* A number [-]digits[.digits] of up to 16 bytes behind the sign, taken as words of digits, the first
 * byte lowest. It asks little of its digits one by one: numbers of unlike lengths stand below
 * each other, and a processor that guesses wrong loses more time than the whole takes. False if it
 * is anything else, or stands too near to the first byte of the chunk. */
static inline bool short_number(const struct cells *c, bytes at, bytes end, uint8_t point,
                                double *value) {
    bool negative = at < end && *at == '-';
    at += negative;
    int64_t length = end - at;
    if (length < 1 || length > 16 || end - c->data < 16) return false;
    int decimals = 0;
    uint64_t digits, more;
    if (length <= 8) {
        uint64_t word, mask = ~0ull << (64 - 8 * length);
        memcpy(&word, end - 8, 8);
        word = (word & mask) | (ZEROS & ~mask);
        uint64_t found = first_equal(word, point);
        if (found) { /* what stands before the mark moves up over it */
            if (length == 1) return false;
            int place = __builtin_ctzll(found) >> 3;
            decimals = 7 - place;
            mask = ~0ull >> 8 * decimals;
            word = (word & ~mask) | ((word << 8 | '0') & mask);
        }
        if (!eight_digits(word, &digits)) return false;
    } else {
        uint64_t word[2], mask[2];
        memcpy(word, end - 16, 16);
        memcpy(mask, EDGE + length, 16);
        word[0] = (word[0] & mask[0]) | (ZEROS & ~mask[0]);
        word[1] = (word[1] & mask[1]) | (ZEROS & ~mask[1]);
        uint64_t first = first_equal(word[0], point), second = first_equal(word[1], point);
        if (first | second) {
            uint64_t later = (uint64_t)(first != 0) - 1; /* all ones: it is in the second word */
            int place = (int)(later & 8) + (__builtin_ctzll(first | (second & later)) >> 3);
            decimals = 15 - place;
            uint64_t moved[2] = {word[0] << 8 | '0', word[1] << 8 | word[0] >> 56};
            memcpy(mask, EDGE + 31 - place, 16);
            word[0] = (word[0] & ~mask[0]) | (moved[0] & mask[0]);
            word[1] = (word[1] & ~mask[1]) | (moved[1] & mask[1]);
        }
        if (!(eight_digits(word[1], &digits) && eight_digits(word[0], &more))) return false;
        digits += more * 100000000;
    }
    if (digits > 1ull << 53) {
        if (!nearest(c, digits, -decimals, value)) return false;
    } else {
        *value = (double)(int64_t)digits / TENS[decimals];
    }
    uint64_t bits;
    memcpy(&bits, value, sizeof bits);
    bits |= (uint64_t)negative << 63;
    memcpy(value, &bits, sizeof bits);
    return true;
}

/* Read digits as far as they go; `digits` wraps around where they are more than 19. */
static inline bytes digits_from(bytes at, bytes end, uint64_t *digits) {
    uint64_t word, eight;
    for (; end - at >= 8; at += 8) {
        memcpy(&word, at, 8);
        if (!eight_digits(word, &eight)) break;
        *digits = *digits * 100000000 + eight;
    }
    for (; at < end && is_digit(*at); at++) *digits = *digits * 10 + (uint64_t)(*at - '0');
    return at;
}

/* A number [+-]digits[.digits][e[+-]digits], with a digit before or after the mark. */
APART bool number(const struct cells *c, bytes at, bytes end, uint8_t point, double *value) {
    bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) at++;
    uint64_t digits = 0;
    bytes first = at;
    at = digits_from(at, end, &digits);
    int64_t n_digits = at - first, power = 0;
    if (at < end && *at == point) {
        bytes fraction = ++at;
        at = digits_from(at, end, &digits);
        power = fraction - at;
        n_digits -= power;
    }
    if (!n_digits) return false;
    bytes after = at;
    if (at < end && (*at | 0x20) == 'e') {
        at++;
        bool down = at < end && *at == '-';
        if (at < end && (*at == '-' || *at == '+')) at++;
        if (at == end) return false;
        int64_t exponent = 0;
        for (; at < end && is_digit(*at); at++) {
            exponent = exponent * 10 + (*at - '0');
            if (exponent > 99999) return false;
        }
        power += down ? -exponent : exponent;
    }
    if (at != end) return false;
    if (n_digits <= 19) {
        if (!nearest(c, digits, power, value)) return false;
    } else { /* more than fit a word, maybe: the first 19 that count */
        int64_t kept = 0, dropped = 0;
        digits = 0;
        for (at = first; at < after; at++) {
            if (*at == point) continue;
            if (kept == 19) {
                dropped++;
            } else {
                digits = digits * 10 + (uint64_t)(*at - '0');
                kept += digits != 0;
            }
        }
        double above;
        if (!nearest(c, digits, power + dropped, value)) return false;
        if (dropped && (!nearest(c, digits + 1, power + dropped, &above) || above != *value))
            return false;
    }
    if (negative) *value = -*value;
    return true;
}

APART bool says_missing(const struct cells *c, bytes at, bytes end) {
    for (bytes word = c->missing; *word; word += 1 + *word) {
        if (*word != end - at) continue;
        int same = 0;
        while (same < *word) {
            uint8_t byte = at[same];
            if (byte >= 'a' && byte <= 'z') byte -= 0x20;
            if (byte != word[1 + same]) break;
            same++;
        }
        if (same == *word) return true;
    }
    return false;
}

static inline bool is_blank(uint8_t byte) { return byte == ' ' || byte == '\t'; }

static inline void trim(bytes *start, bytes *end) {
    while (*start < *end && is_blank(**start)) ++*start;
    while (*start < *end && is_blank((*end)[-1])) --*end;
}

/* Whether a trimmed cell says that there is no value: then it is NaN. */
APART bool gone(const struct cells *c, bytes start, bytes end, double *value) {
    if (start < end && !says_missing(c, start, end)) return false;
    const uint64_t nan = 0x7ff8000000000000ull;
    memcpy(value, &nan, sizeof nan);
    return true;
}

static inline bool read_number(const struct cells *c, struct cell cell, uint8_t point,
                               double *value) {
    bytes start = cell.start, end = cell.end;
    if (short_number(c, start, end, point, value)) return true;
    trim(&start, &end);
    return number(c, start, end, point, value) || gone(c, start, end, value);
}

static int read_numbers(const struct cells *c, struct column *column, int64_t from, int64_t to) {
    double *values = column->out;
    for (int64_t row = from; row < to; row++)
        if (!read_number(c, cell_at(c, row, column->index), (uint8_t)column->point, values + row))
            return UNFIT;
    return READ;
}

/* -- dates --------------------------------------------------------------------------------- */

/* Whether digits and signs stand where a layout has them. */
static inline bool fits(const struct date_layout *layout, bytes text) {
    uint64_t wrong = 0;
    for (int i = 0; i < layout->length; i += 8) {
        uint64_t word, expected, within, more;
        memcpy(&word, text + i, 8);
        memcpy(&expected, layout->expected + i, 8);
        memcpy(&within, layout->within + i, 8);
        memcpy(&more, layout->more + i, 8);
        word = (word ^ expected) & within;
        wrong |= word | (word + more);
    }
    return !(wrong & 0xf0 * ONES);
}

static inline int pair(const struct date_layout *layout, bytes text, int name) {
    return text[layout->tens[name]] * 10 + text[layout->ones[name]] - 11 * '0';
}

static bool is_leap(int year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

/* Seconds from 1970 to a moment of the Gregorian calendar; false if there is none such. Behind the
 * text stands '0'. */
static inline bool seconds_of(const struct date_layout *layout, bytes text, double *seconds) {
    static const uint8_t DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = pair(layout, text, YEAR), month = pair(layout, text, MONTH);
    int day = pair(layout, text, DAY), hour = pair(layout, text, HOUR);
    int minute = pair(layout, text, MINUTE), second = pair(layout, text, SECOND);
    if (layout->tens[CENTURY] < LONGEST_DATE)
        year += 100 * pair(layout, text, CENTURY);
    else
        year += year < 69 ? 2000 : 1900; /* as POSIX has it */
    if (year < 1 || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59)
        return false;
    if (day < 1 || (day > DAYS[month - 1] && !(month == 2 && day == 29 && is_leap(year))))
        return false;
    /* Years are counted from March on, so that a leap day is the last of them. */
    int years = year - (month <= 2), months = month > 2 ? month - 3 : month + 9;
    int days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day -
               1 - 719468;
    *seconds = (double)((int64_t)days * 86400 + hour * 3600 + minute * 60 + second);
    if (layout->n_fraction) {
        int64_t fraction = 0;
        for (int i = 0; i < layout->n_fraction; i++)
            fraction = fraction * 10 + (text[layout->fraction + i] - '0');
        *seconds += (double)fraction / TENS[layout->n_fraction];
    }
    return true;
}

static inline bool read_date(const struct cells *c, struct cell cell, const struct column *column,
                             double *seconds) {
    if (cell.doubled) return false;
    bytes start = cell.start, end = cell.end;
    trim(&start, &end);
    int64_t length = end - start;
    if (length > 0 && length <= LONGEST_DATE) {
        uint8_t text[LONGEST_DATE + 1];
        if (c->stop - start >= LONGEST_DATE) {
            memcpy(text, start, LONGEST_DATE);
        } else {
            memset(text, 0, LONGEST_DATE);
            memcpy(text, start, (size_t)length);
        }
        text[LONGEST_DATE] = '0';
        for (int64_t i = 0; i < column->n_layouts; i++) {
            const struct date_layout *layout = column->layouts + i;
            if (layout->length == length && fits(layout, text) && seconds_of(layout, text, seconds))
                return true;
        }
    }
    return gone(c, start, end, seconds);
}

static int read_dates(const struct cells *c, struct column *column, int64_t from, int64_t to) {
    double *seconds = column->out;
    for (int64_t row = from; row < to; row++)
        if (!read_date(c, cell_at(c, row, column->index), column, seconds + row)) return UNFIT;
    return READ;
}

/* -- texts --------------------------------------------------------------------------------- */

/* Copy a cell's text, each doubled quote as one; returns its length. */
static size_t copy_text(const struct cells *c, struct cell cell, uint8_t *to) {
    size_t length = (size_t)(cell.end - cell.start);
    if (!cell.doubled) {
        memcpy(to, cell.start, length);
        return length;
    }
    uint8_t *next = to;
    for (bytes at = cell.start; at < cell.end; at++) {
        *next++ = *at;
        if (*at == c->quote) at++;
    }
    return (size_t)(next - to);
}

static int read_texts(const struct cells *c, struct column *column, int64_t from, int64_t to) {
    int32_t *offsets = column->out;
    if (from == 0) offsets[0] = 0;
    for (int64_t row = from; row < to; row++) {
        size_t length = copy_text(c, cell_at(c, row, column->index), column->texts + offsets[row]);
        offsets[row + 1] = offsets[row] + (int32_t)length;
    }
    return READ;
}

/* -- different texts ------------------------------------------------------------------------ */

enum { FIRST_SLOTS = 64 };

static void forget(struct slot *slots, size_t n_slots) {
    for (size_t i = 0; i < n_slots; i++) slots[i].place = -1;
}

static bool more_slots(struct dictionary *d) {
    size_t n_slots = d->n_slots ? 2 * d->n_slots : FIRST_SLOTS;
    int shift = 64 - __builtin_ctzll(n_slots);
    struct slot *slots = malloc(n_slots * sizeof *slots);
    if (!slots) return false;
    forget(slots, n_slots);
    for (const struct slot *old = d->slots; old < d->slots + d->n_slots; old++) {
        if (old->place < 0) continue;
        size_t slot = old->hash >> shift;
        while (slots[slot].place >= 0) slot = (slot + 1) & (n_slots - 1);
        slots[slot] = *old;
    }
    free(d->slots);
    d->slots = slots;
    d->n_slots = n_slots;
    d->shift = shift;
    return true;
}

static inline uint64_t mixed(uint64_t word) {
    word *= 0x9e3779b97f4a7c15ull;
    return word ^ word >> 32;
}

/* Texts of up to eight bytes of the same length have different hashes. */
static inline uint64_t hash_of(bytes at, size_t length, bytes stop, uint64_t seed) {
    uint64_t hash = mixed(seed ^ word_of(at, length, stop));
    for (size_t done = 8; done < length; done += 8)
        hash = mixed(hash ^ word_of(at + done, length - done, stop));
    return hash;
}

/* Whether there is memory for one more text. */
static bool has_room(struct dictionary *d, size_t length) {
    int64_t *counts = grown(d->counts, &d->counts_room, d->count + 1, sizeof *counts);
    if (!counts) return false;
    d->counts = counts;
    int32_t *offsets = grown(d->offsets, &d->offsets_room, d->count + 2, sizeof *offsets);
    if (!offsets) return false;
    d->offsets = offsets;
    uint8_t *texts = grown(d->texts, &d->texts_room, d->length + length + 1, 1);
    if (!texts) return false;
    d->texts = texts;
    return true;
}

/* The place of a text among the different ones, to which it is added if it is new; -1 if there is
 * no memory for it. */
static inline int32_t place_of(struct dictionary *d, bytes text, size_t length, bytes stop,
                               uint64_t seed) {
    uint64_t hash = hash_of(text, length, stop, seed);
    struct slot *slot = d->slots + (hash >> d->shift);
    while (slot->place >= 0) {
        if (slot->hash == hash && slot->length == length &&
            (length <= 8 || !memcmp(d->texts + d->offsets[slot->place], text, length)))
            return slot->place;
        if (++slot == d->slots + d->n_slots) slot = d->slots;
    }
    if (!has_room(d, length)) return -1;
    memcpy(d->texts + d->length, text, length);
    d->length += length;
    d->counts[d->count] = 0;
    *slot = (struct slot){hash, (int32_t)d->count++, (uint32_t)length};
    d->offsets[d->count] = (int32_t)d->length;
    if (2 * d->count > d->n_slots && !more_slots(d)) return -1;
    return (int32_t)(d->count - 1);
}

static bool empty(struct dictionary *d) {
    if (!d->n_slots && !more_slots(d)) return false;
    forget(d->slots, d->n_slots);
    d->count = d->length = 0;
    if (!has_room(d, 0)) return false;
    d->offsets[0] = 0;
    return true;
}

static int read_codes(struct cells *c, struct column *column, int64_t from, int64_t to) {
    struct dictionary *d = &c->dictionaries[column->index];
    int32_t *codes = column->out;
    if (from == 0 && !empty(d)) return OUT_OF_MEMORY;
    for (int64_t row = from; row < to; row++) {
        struct cell cell = cell_at(c, row, column->index);
        size_t length = (size_t)(cell.end - cell.start);
        bytes text = cell.start, stop = c->stop;
        if (cell.doubled) {
            uint8_t *scratch = grown(c->scratch, &c->scratch_room, length, 1);
            if (!scratch) return OUT_OF_MEMORY;
            c->scratch = scratch;
            length = copy_text(c, cell, c->scratch);
            text = c->scratch;
            stop = text + length;
        }
        int32_t place = place_of(d, text, length, stop, c->seed);
        if (place < 0) return OUT_OF_MEMORY;
        d->counts[place]++;
        codes[row] = place;
    }
    return READ;
}

/* -- what cells.py calls ---------------------------------------------------------------------- */

/* Convert columns of the chunk that was cut last; what came of each stands in its `state`. */
void cells_read(struct cells *c, struct column *columns, int64_t n_columns) {
    for (int64_t i = 0; i < n_columns; i++) columns[i].state = READ;
    for (int64_t from = 0; from < c->rows; from += ROWS_AT_ONCE) {
        int64_t to = from + ROWS_AT_ONCE < c->rows ? from + ROWS_AT_ONCE : c->rows;
        for (struct column *each = columns; each < columns + n_columns; each++) {
            if (each->state != READ) continue;
            switch (each->kind) {
            case NUMBERS: each->state = read_numbers(c, each, from, to); break;
            case DATES: each->state = read_dates(c, each, from, to); break;
            case TEXTS: each->state = read_texts(c, each, from, to); break;
            default: each->state = read_codes(c, each, from, to);
            }
        }
    }
    for (struct column *each = columns; each < columns + n_columns; each++) {
        if (each->kind != CODES || each->state != READ) continue;
        const struct dictionary *d = &c->dictionaries[each->index];
        each->different = d->texts;
        each->offsets = d->offsets;
        each->counts = d->counts;
        each->count = (int64_t)d->count;
    }
}

/* The sizes of what cells.py fills in: another library than it was written for is not used. */
int64_t cells_sizes(void) {
    return (int64_t)(sizeof(struct column) << 16 | sizeof(struct date_layout));
}

/* `powers` and `missing` must live as long as what is returned; NULL: no memory. */
struct cells *cells_new(int64_t width, const uint64_t *powers, const uint8_t *missing,
                        uint64_t seed) {
    struct cells *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->dictionaries = calloc((size_t)width + 1, sizeof *c->dictionaries);
    if (!c->dictionaries) {
        free(c);
        return NULL;
    }
    c->width = width;
    c->powers = powers;
    c->missing = missing;
    c->seed = seed;
    return c;
}

void cells_free(struct cells *c) {
    for (int64_t i = 0; i < c->width; i++) {
        struct dictionary *d = &c->dictionaries[i];
        free(d->slots);
        free(d->counts);
        free(d->offsets);
        free(d->texts);
    }
    free(c->dictionaries);
    free(c->ends);
    free(c->starts);
    free(c->scratch);
    free(c);
}
