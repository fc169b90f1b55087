/* decide.c - which choice a model takes, and means with their standard errors. */
#include <math.h>

#include "tasks/tasks.h"

const char *const nr_decision_names[NR_DECISIONS] = {
#define NR_X(name, text) #name,
    NR_DECISION_LIST(NR_X)
#undef NR_X
};

static double value(nr_decision d, const nr_choice_score *c)
{
    switch (d) {
    case NR_D_acc: return c->sum;
    case NR_D_acc_norm: return c->sum / (double)c->characters;
    case NR_D_acc_bytes: return c->sum / (double)c->bytes;
    case NR_D_acc_per_char: return c->sum / (double)(c->characters + c->blank);
    case NR_D_acc_per_token: return c->sum / (double)c->tokens;
    case NR_D_acc_mutual_info: return c->sum - c->behind_nothing;
    case NR_D_acc_uncond: return c->sum - c->behind_context;
    case NR_DECISIONS: break;
    }
    return NAN;
}

size_t nr_decide(nr_decision d, const nr_choice_score *c, size_t choices)
{
    size_t best = 0;
    for (size_t i = 0; i < choices; i++) {
        if (isnan(value(d, &c[i]))) return choices;
        if (value(d, &c[i]) > value(d, &c[best])) best = i;
    }
    return best;
}

void nr_mean_add(nr_mean *m, double x)
{
    m->n++;
    m->sum += x;
    m->squares += x * x;
}

double nr_mean_value(const nr_mean *m) { return m->n > 0 ? m->sum / m->n : NAN; }

double nr_mean_stderr(const nr_mean *m)
{
    if (m->n < 2) return NAN;
    double spread = m->squares - m->sum * m->sum / m->n;
    return sqrt(fmax(spread, 0) / (m->n - 1) / m->n);
}
