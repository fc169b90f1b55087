/* windows.c - which inputs of a document are run together, and which predictions of them count. */
#include "eval/eval.h"

size_t nr_window_count(size_t tokens, size_t context, size_t stride)
{
    size_t step = stride ? stride : context;
    if (tokens == 0) return 0;
    if (tokens <= context) return 1;
    return 1 + (tokens - context + step - 1) / step;
}

nr_window nr_window_at(size_t tokens, size_t context, size_t stride, size_t i)
{
    size_t step = stride ? stride : context;
    if (i == 0) {
        size_t n = NR_MIN(tokens, context);
        return (nr_window){0, n, n};
    }
    size_t done = context + (i - 1) * step;
    size_t scored = NR_MIN(step, tokens - done);
    return (nr_window){done + scored - context, context, scored};
}

size_t nr_window_padded(size_t length, size_t context)
{
    size_t step = 8; /* an eighth of the largest power of two within length, at least 8 */
    while (step * 16 <= length) step *= 2;
    return NR_MIN((length + step - 1) / step * step, context);
}
