/*
 * plan.c - what a run will take, from shapes alone: memory by the same dry
 * walks that later lay it out, disk from the sizes of what is kept, time from a
 * short matrix product of the model's kind on this machine.
 *
 *   time = steps * tokens * (2 W forward + 2 W backward + 6 E extension
 *          + 14 L T H D / 2 attention) + validations forward, over the rate that
 *          the product reached, times OTHER_WORK; where backbone weights train, their
 *          2 W are in place and only the weight gradients' 2 E come on top; a
 *          distilled step has one more forward pass
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/rate.h"
#include "train/train.h"

#define OTHER_WORK 1.3   /* norms, rotary, losses, optimizer beside the products; measured on SmolLM2-135M */
#define PROBE_SECONDS 0.02
#define PROBE_SIDE ((size_t)2048)
#define TEXT_PER_TOKEN 3.5 /* bytes; less for other scripts */
#define PACKED_RATIO 3.5   /* of a compressed text */
#define STATES 3           /* two kept and one being written */

/* ---- disk ---- */

static double text_bytes(const nr_run *run)
{
    double sum = 0;
    for (size_t set = 0; set < 4; set++) {
        const nr_files *f = nr_run_files(run, set);
        for (size_t i = 0; i < f->count; i++) {
            struct stat st;
            const char *dot = strrchr(f->paths[i], '.');
            bool packed = dot && (strcmp(dot, ".gz") == 0 || strcmp(dot, ".zst") == 0);
            if (stat(f->paths[i], &st) == 0) sum += (double)st.st_size * (packed ? PACKED_RATIO : 1);
        }
    }
    return sum;
}

static size_t disk_bytes(const nr_run *run, const nr_settings *s, size_t weights, size_t real_size, size_t V, bool anchored)
{
    double cache = text_bytes(run) / TEXT_PER_TOKEN * (V <= 65536 ? 2 : 4);
    double lines = (double)s->steps / (double)s->logging_steps * 700;
    double files = (double)weights * ((double)(3 * STATES) * (double)real_size + 2 * sizeof(float));
    if (anchored) files += (double)(weights * real_size);
    return (size_t)(cache + lines + files);
}

/* ---- time ---- */

static double seconds_of(const nr_model *m, const nr_settings *s, const nr_extension *e, size_t B)
{
    const nr_config *c = m->config;
    double rate = nr_product_rate(m->ops, B * s->context, NR_MIN(c->F, PROBE_SIDE), NR_MIN(c->C, PROBE_SIDE), PROBE_SECONDS);
    if (rate == 0) return 0;
    double W = (double)nr_model_weight_count(c) - (c->tied ? 0 : (double)(c->V * c->C)), E = e->replaces ? 0 : (double)e->weights;
    double attention = (double)(c->L * c->H * c->D) * (double)s->context * 0.5; /* products of a token, one of two matrices */
    double row = (double)s->context * (4 * W + 6 * E + 14 * attention + (e->replaces ? 2 * (double)e->weights : 0));
    double step = (double)s->batch_size * (row + (s->lwf_alpha > 0 ? (double)s->context * (2 * W + 4 * attention) : 0));
    double before = e->method->anchored ? (double)s->ewc_sequences * row : 0;
    double head = 2 * (double)(c->V * c->C);
    double eval = 2 * (double)(nr_validation_rows(s) * s->context) * (2 * W + 2 * E + 4 * attention + head);
    double evals = 2 + (s->eval_steps ? (double)(s->steps / s->eval_steps) : 0);
    return OTHER_WORK * (before + (double)s->steps * step + evals * eval) / rate;
}

/* ---- memory ---- */

/* What one of several ranks takes, rank 0, which takes most. */
static void add_ranks(nr_plan *plan, const nr_settings *s, const nr_extension *e, size_t real, size_t ranks)
{
    plan->optimizer_bytes = 2 * nr_exchange_share(e->weights, ranks) * real + nr_fisher_bytes(e, ranks);
    plan->exchange_bytes = nr_exchange_bytes(e->weights, real, s->gradient_exchange == 1, ranks);
    plan->seconds /= (double)ranks; /* what is sent is not foreseen: it depends on the network */
}

static size_t extension_bytes(const nr_extension *e)
{
    const nr_ops *ops = e->model->ops;
    size_t bytes = 2 * e->weights * ops->real_size; /* values, gradients */
    for (size_t i = 0; i < e->param_count; i++) {
        const nr_param *p = &e->params[i];
        if (p->as_linear) bytes += ops->linear_bytes(ops, p->shape[0], p->shape[1], NR_PACK_FORWARD | NR_PACK_BACKWARD_INPUT);
    }
    return bytes;
}

static nr_status check_context(const nr_model *m, const nr_settings *s, nr_error *err)
{
    if (s->context <= m->config->max_context) return NR_OK;
    return nr_fail(err, NR_E_USAGE, "--context: expected at most the %zu tokens of %s, found %zu", m->config->max_context,
                   m->file->path, s->context);
}

nr_status nr_plan_make(nr_plan *plan, const nr_model *shapes, const nr_run *run, const nr_settings *s, nr_error *err)
{
    nr_extension *e, *below, *all[NR_STACK_MAX];
    nr_pass_plan pass = {0};
    size_t B, real = shapes->ops->real_size, ranks = nr_cluster_size(run->cluster);
    NR_TRY(nr_train_share_batch(&B, s, ranks, false, err));
    *plan = (nr_plan){0};
    NR_TRY(check_context(shapes, s, err));
    NR_TRY(nr_extension_new(&e, shapes, s, err));
    nr_pass_options opt = nr_train_pass_options(s, B);
    nr_status st = nr_extension_load_stack(&below, shapes, run->stands_on.paths, run->stands_on.count, false, err);
    if (st == NR_OK) st = nr_extension_stand_on(e, below, err);
    if (st == NR_OK && nr_pass_plan_for(&pass, shapes, all, nr_extension_stack(e, all), &opt) != NR_OK)
        st = nr_fail(err, NR_E_USAGE, "plan: a pass of %zu rows of %zu tokens can't be laid out", B, s->context);
    if (st == NR_OK) {
        plan->trained = e->weights;
        plan->allowed = s->width && !e->replaces ? e->weights : (size_t)nr_extension_budget(e);
        plan->backbone = nr_model_weight_count(shapes->config);
        plan->weights_bytes = nr_model_matrix_bytes(shapes, NR_USE_TRAIN, s->frozen == 1, (nr_products)s->frozen_products,
                                                    nr_train_yields(s, e) ? e : NULL);
        plan->activation_bytes = pass.total + nr_validation_bytes(shapes, s, B, ranks);
        plan->extension_bytes = extension_bytes(e);
        for (const nr_extension *b = below; b; b = b->below) plan->extension_bytes += extension_bytes(b) - b->weights * real; /* no gradients */
        plan->disk_bytes = disk_bytes(run, s, e->weights, real, shapes->config->V, e->method->anchored);
        plan->seconds = seconds_of(shapes, s, e, B);
        add_ranks(plan, s, e, real, ranks);
        plan->total_bytes = plan->weights_bytes + plan->activation_bytes + plan->extension_bytes;
        plan->total_bytes += plan->optimizer_bytes + plan->exchange_bytes;
    }
    nr_extension_close(e);
    nr_extension_close_stack(below);
    return st;
}

nr_status nr_trainer_plan(nr_plan *plan, const nr_run *run, const nr_settings *s, nr_error *err)
{
    nr_model *m;
    nr_settings settled = *s;
    const nr_method *method;
    nr_model_options opt = {(nr_compute)s->compute, NR_USE_SHAPES, s->threads, run->hub_folder, NR_FROZEN_AUTO, NR_PRODUCTS_COMPUTE};
    *plan = (nr_plan){0};
    NR_TRY(nr_settings_check(s, err));
    NR_TRY(nr_train_method_defaults(&settled, &method, err));
    NR_TRY(nr_train_check_shares(run, &settled, err));
    NR_TRY(nr_model_open(&m, run->model, &opt, err));
    nr_status st = nr_plan_make(plan, m, run, &settled, err);
    nr_model_close(m);
    return st;
}

/* ---- as a table ---- */

static void add_bytes(nr_buffer *b, const char *what, size_t bytes)
{
    nr_buffer_printf(b, "%-22s %10.1f MiB\n", what, (double)bytes / (1 << 20));
}

char *nr_plan_describe(const nr_plan *p)
{
    nr_buffer b = {0};
    nr_buffer_printf(&b, "%-22s %10zu, %.2f %% of the backbone's\n", "weights trained", p->trained,
                     100 * (double)p->trained / (double)p->backbone);
    if ((double)p->trained > 1.05 * (double)p->allowed)
        nr_buffer_printf(&b, "%-22s %10zu: the method can't keep to --extra\n", "        allowed", p->allowed);
    add_bytes(&b, "memory  backbone", p->weights_bytes);
    add_bytes(&b, "        activations", p->activation_bytes);
    add_bytes(&b, "        extension", p->extension_bytes);
    add_bytes(&b, "        optimizer", p->optimizer_bytes);
    if (p->exchange_bytes) add_bytes(&b, "        exchange", p->exchange_bytes);
    add_bytes(&b, "        together", p->total_bytes);
    add_bytes(&b, "disk    at most", p->disk_bytes);
    if (p->seconds > 0)
        nr_buffer_printf(&b, "%-22s %10.1f min\n", "time    about", p->seconds / 60);
    else
        nr_buffer_text(&b, "time    unknown\n");
    if (!b.failed) return b.data;
    nr_buffer_free(&b);
    return NULL;
}
