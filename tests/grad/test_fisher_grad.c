/*
 * test_fisher_grad.c - the loss of elastic weight consolidation in double: its
 * gradient against difference quotients, its slices against the whole, and the
 * Fisher information against squared difference quotients of single rows.
 */
#include "../tiny.h"
#include "../cluster.h"

#include "train/train.h"

static nr_trainer *open_trainer(tiny *t, const char *train_weights)
{
    nr_trainer *trainer;
    nr_settings s;
    nr_model *m;
    nr_error err = {0};
    char path[160];
    nr_model_options opt = {.use = NR_USE_TRAIN, .threads = 1};
    tiny_open_as(t, nr_ops_reference(true), NR_USE_SHAPES, tiny_biased_config());
    snprintf(path, sizeof path, "%s/model", t->folder);
    tiny_ok(nr_model_open_on(&m, path, &opt, nr_ops_reference(true), &err), &err);
    nr_settings_default(&s);
    tiny_ok(nr_settings_set(&s, "method", "ewc", &err), &err);
    tiny_ok(nr_settings_set(&s, "train_weights", train_weights, &err), &err);
    s.batch_size = 2;
    s.context = 9;
    s.ewc_lambda = 50;
    s.ewc_sequences = 3;
    tiny_ok(nr_trainer_random(&trainer, m, &s, &err), &err);
    return trainer;
}

static void close_trainer(tiny *t, nr_trainer *trainer)
{
    nr_trainer_close(trainer);
    tiny_close(t);
}

static void of_the_loss(void **state)
{
    (void)state;
    tiny t;
    nr_trainer *r = open_trainer(&t, "all");
    const nr_ops *ops = r->model->ops;
    tiny_shake(r->e, 0.2);
    memset(r->e->grads, 0, r->e->weights * ops->real_size);
    assert_true(nr_fisher_hold(r) > 0);
    double *grads = malloc(r->e->weights * sizeof *grads);
    memcpy(grads, r->e->grads, r->e->weights * sizeof *grads);
    size_t held = 0;
    for (size_t i = 0; i < r->e->weights; i += 3) {
        double v = nr_real_get(ops, r->e->values, i), side[2];
        for (int k = 0; k < 2; k++) {
            nr_real_set(ops, r->e->values, i, v + (k ? 1e-3 : -1e-3)); /* quadratic: any step will do */
            side[k] = nr_fisher_hold(r);
        }
        nr_real_set(ops, r->e->values, i, v);
        double numeric = (side[1] - side[0]) / 2e-3;
        held += fabs(grads[i]) > 1e-9;
        if (fabs(numeric - grads[i]) > 1e-8 * fmax(1e-2, fabs(numeric))) fail_msg("weight %zu: quotient %.10g, gradient %.10g", i, numeric, grads[i]);
    }
    assert_true(held > r->e->weights / 6); /* most, but for tokens that the rows don't have */
    free(grads);
    close_trainer(&t, r);
}

/* Slices of any number of ranks, which end in the middle of rows, add up to the whole. */
static void in_slices(void **state)
{
    (void)state;
    tiny t;
    nr_trainer *r = open_trainer(&t, "*.mlp.*,embed_tokens");
    nr_exchange whole = r->exchange;
    double *fisher = r->fisher, *grads = malloc(r->e->weights * sizeof *grads);
    tiny_shake(r->e, 0.2);
    memset(r->e->grads, 0, r->e->weights * sizeof *grads);
    double loss = nr_fisher_hold(r);
    memcpy(grads, r->e->grads, r->e->weights * sizeof *grads);
    for (size_t ranks = 2; ranks <= 5; ranks++) {
        double sum = 0;
        memset(r->e->grads, 0, r->e->weights * sizeof *grads);
        for (size_t rank = 0; rank < ranks; rank++) {
            nr_cluster fake = {.rank = rank, .size = ranks, .reserve = cluster_reserve};
            assert_int_equal(nr_exchange_new(&r->exchange, &fake, r->e, false, NULL), NR_OK);
            double *own = calloc(r->exchange.owned, sizeof *own);
            for (size_t p = 0; p < r->exchange.count; p++) {
                const nr_piece *piece = &r->exchange.pieces[p];
                size_t n = piece->end - piece->begin, each = ((n + 15) / 16 + ranks - 1) / ranks * 16,
                       end = p + 1 < r->exchange.count ? r->exchange.pieces[p + 1].own : r->exchange.owned;
                memcpy(own + piece->own, fisher + piece->begin + rank * each, (end - piece->own) * sizeof *own);
            }
            r->fisher = own;
            sum += nr_fisher_hold(r);
            free(own);
            nr_exchange_free(&r->exchange);
        }
        assert_memory_equal(r->e->grads, grads, r->e->weights * sizeof *grads);
        assert_true(fabs(sum - loss) < 1e-12 * loss);
    }
    r->exchange = whole;
    r->fisher = fisher;
    free(grads);
    close_trainer(&t, r);
}

/* Mean loss of one row, by itself. */
static double row_loss(nr_trainer *r)
{
    nr_error err = {0};
    nr_losses sum = {0};
    nr_batch b = {.B = 1, .T = r->s.context, .ids = r->row, .targets = r->row + 1, .step_tokens = r->s.context};
    tiny_ok(nr_extension_repack(r->e, &err), &err);
    tiny_ok(nr_pass_forward(r->pass, &b, &err), &err);
    tiny_ok(nr_pass_loss(r->pass, &b, false, &sum, NULL, &err), &err);
    return sum.nll / (double)r->s.context;
}

static void of_single_rows(void **state)
{
    (void)state;
    tiny t;
    nr_trainer *r = open_trainer(&t, "layers.1.self_attn.*,norm,embed_tokens");
    const nr_ops *ops = r->model->ops;
    const nr_rows *old = r->train[NR_OLD];
    assert_int_equal(nr_fisher_rows(r), 3);
    for (size_t i = 0; i < r->e->weights; i += 7) {
        double v = nr_real_get(ops, r->e->values, i), want = 0;
        for (size_t row = 0; row < 3; row++) {
            double side[2];
            nr_rows_get(old, nr_draw_row(r->s.seed, false, row, nr_rows_count(old)), r->row, NULL);
            for (int k = 0; k < 2; k++) {
                nr_real_set(ops, r->e->values, i, v + (k ? 1e-5 : -1e-5));
                side[k] = row_loss(r);
            }
            double g = (side[1] - side[0]) / 2e-5;
            want += g * g / 3;
        }
        nr_real_set(ops, r->e->values, i, v);
        double f = nr_real_get(ops, r->fisher, i);
        if (fabs(f - want) > 1e-6 * fmax(1e-4, want)) fail_msg("weight %zu: squared quotients %.10g, F %.10g", i, want, f);
    }
    close_trainer(&t, r);
}

int main(void)
{
    nr_threads_set(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(of_the_loss), cmocka_unit_test(in_slices), cmocka_unit_test(of_single_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
