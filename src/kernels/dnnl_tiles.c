/*
 * dnnl_tiles.c - packings and primitives for tiles of matrix products.
 */
#include "kernels/dnnl_tiles.h"

#include "kernels/panel.h"

#include <stdlib.h>
#include <string.h>

#define PACK_ROWS 1024      /* the layout is chosen for this many rows */
#define STACK_SCRATCH 65536

/* ---- small helpers ---- */

dnnl_data_type_t nr_dnnl_type(nr_dtype t) { return t == NR_BF16 ? dnnl_bf16 : dnnl_f32; }

nr_status nr_dnnl_refuse(const nr_dnnl_matrix *m, dnnl_status_t s, const char *what, size_t n, nr_error *err)
{
    nr_status st = s == dnnl_out_of_memory ? NR_E_MEMORY : NR_E_UNSUPPORTED;
    const char *why = s == dnnl_out_of_memory ? "not enough memory"
                      : s == dnnl_unimplemented ? "not available on this machine"
                                                : "an internal error";
    return nr_fail(err, st, "matrix product: %s of %zu rows with a %s matrix (%zu, %zu): %s (status %d of %s)", what, n,
                   nr_dtypes[m->head.ops->act].name, m->head.out, m->head.in, why, (int)s, nr_matrix_library());
}

size_t nr_round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

nr_cut nr_cut_evenly(size_t total, size_t most, size_t unit)
{
    size_t parts = (total + most - 1) / most;
    nr_cut c = {0};
    c.size = NR_MIN(total, nr_round_up((total + parts - 1) / parts, unit));
    c.count = (total + c.size - 1) / c.size;
    c.last = total - (c.count - 1) * c.size;
    return c;
}

size_t nr_cut_part(const nr_cut *c, size_t i) { return i + 1 == c->count ? c->last : c->size; }

static dnnl_status_t desc_strided(dnnl_memory_desc_t *d, size_t rows, size_t cols, dnnl_data_type_t t,
                                  size_t row_stride, size_t col_stride)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    dnnl_dims_t strides = {(dnnl_dim_t)row_stride, (dnnl_dim_t)col_stride};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, t, strides);
}

/* ---- plans ---- */

static void plan_free(nr_primitive *p)
{
    if (!p) return;
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
    free(p);
}

/* Part of a packing as a matrix of its own that starts at its first element. */
static dnnl_status_t desc_part(dnnl_memory_desc_t *d, const nr_packing *from, size_t depth, size_t depth_at, size_t cols,
                               size_t cols_at)
{
    dnnl_dims_t dims = {(dnnl_dim_t)depth, (dnnl_dim_t)cols};
    dnnl_dims_t at = {(dnnl_dim_t)depth_at, (dnnl_dim_t)cols_at};
    dnnl_status_t s = dnnl_memory_desc_init_submemory(d, &from->desc, dims, at);
    d->offset0 = 0;
    return s;
}

static dnnl_status_t make_attributes(dnnl_primitive_attr_t *attr, bool accumulate)
{
    dnnl_status_t s = dnnl_primitive_attr_create(attr);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (s == dnnl_success && accumulate) {
        dnnl_post_ops_t after = NULL;
        s = dnnl_post_ops_create(&after);
        if (s == dnnl_success) s = dnnl_post_ops_append_sum(after, 1.0f);
        if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*attr, after);
        if (after) dnnl_post_ops_destroy(after);
    }
    return s;
}

static dnnl_status_t make_product(nr_primitive *p, const nr_dnnl_matrix *m, bool bias)
{
    dnnl_matmul_desc_t product;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = make_attributes(&attr, p->accumulate);
    if (s == dnnl_success) s = dnnl_matmul_desc_init(&product, &p->a, &p->b, bias ? &p->bias : NULL, &p->c);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(&p->desc, &product, attr, m->engine, NULL);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

static dnnl_status_t make_reorder(nr_primitive *p, const nr_dnnl_matrix *m)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t s = make_attributes(&attr, false);
    if (s == dnnl_success) s = dnnl_reorder_primitive_desc_create(&p->desc, &p->a, m->engine, &p->c, m->engine, attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

/* What a packing is made of. */
static dnnl_data_type_t source_type(const nr_packing *p) { return p->desc.data_type == dnnl_s8 ? dnnl_s8 : dnnl_f32; }

/* The three matrices of a plan. rows, cols and depth are the tile's. */
static dnnl_status_t describe(nr_primitive *p, const nr_dnnl_matrix *m)
{
    const nr_linear *w = &m->head;
    dnnl_data_type_t act = nr_dnnl_type(w->ops->act), to = nr_dnnl_type(p->to);
    dnnl_status_t s = dnnl_success;
    if (p->kind == NR_PRIMITIVE_FORWARD || p->kind == NR_PRIMITIVE_BACK_INPUT) {
        const nr_packing *from = p->kind == NR_PRIMITIVE_FORWARD ? &m->forward : &m->back_input;
        s = desc_strided(&p->a, p->rows, p->depth, act, p->depth, 1);
        /* The last tile ends where the matrix ends: any other width is whole blocks. */
        size_t at = p->cols % from->cols_block ? from->cols - p->cols : 0;
        if (s == dnnl_success) s = desc_part(&p->b, from, p->depth, 0, p->cols, at);
        if (s == dnnl_success) s = desc_strided(&p->c, p->rows, p->cols, to, p->cols, 1);
        if (s == dnnl_success) s = desc_strided(&p->bias, 1, p->cols, dnnl_f32, p->cols, 1);
    } else if (p->kind == NR_PRIMITIVE_BACK_WEIGHT) {
        s = desc_strided(&p->a, p->rows, p->depth, act, 1, w->out);
        if (s == dnnl_success) s = desc_strided(&p->b, p->depth, p->cols, act, w->in, 1);
        if (s == dnnl_success) s = desc_strided(&p->c, p->rows, p->cols, to, w->in, 1);
    } else if (p->kind == NR_PRIMITIVE_PACK_FORWARD) {
        size_t at = p->cols % m->forward.cols_block ? w->out - p->cols : 0;
        s = desc_strided(&p->a, w->in, p->cols, source_type(&m->forward), 1, w->in);
        if (s == dnnl_success) s = desc_part(&p->c, &m->forward, w->in, 0, p->cols, at);
    } else {
        size_t at = p->depth % m->back_input.depth_block ? w->out - p->depth : 0;
        s = desc_strided(&p->a, p->depth, w->in, source_type(&m->back_input), w->in, 1);
        if (s == dnnl_success) s = desc_part(&p->c, &m->back_input, p->depth, at, w->in, 0);
    }
    return s;
}

static dnnl_status_t plan_make(nr_primitive *p, const nr_dnnl_matrix *m)
{
    dnnl_status_t s = describe(p, m);
    if (s != dnnl_success) return s;
    size_t threads = nr_threads_get();
    nr_threads_set(1); /* the primitive is made for one thread */
    if (p->kind == NR_PRIMITIVE_PACK_FORWARD || p->kind == NR_PRIMITIVE_PACK_BACK_INPUT)
        s = make_reorder(p, m);
    else
        s = make_product(p, m, p->kind == NR_PRIMITIVE_FORWARD && m->bias);
    if (s == dnnl_success) s = dnnl_primitive_create(&p->primitive, p->desc);
    nr_threads_set(threads);
    if (s != dnnl_success) return s;
    p->scratch = dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    p->scratch_size = dnnl_memory_desc_get_size(p->scratch);
    return s;
}

static bool plan_equal(const nr_primitive *a, const nr_primitive *b)
{
    return a->kind == b->kind && a->rows == b->rows && a->cols == b->cols && a->depth == b->depth && a->to == b->to &&
           a->accumulate == b->accumulate;
}

dnnl_status_t nr_primitive_get(nr_primitive **out, nr_dnnl_matrix *m, const nr_primitive *want)
{
    for (nr_primitive *p = atomic_load_explicit(&m->plans, memory_order_acquire); p; p = p->next)
        if (plan_equal(p, want)) {
            *out = p;
            return dnnl_success;
        }
    nr_primitive *p = calloc(1, sizeof *p);
    if (!p) return dnnl_out_of_memory;
    *p = *want;
    dnnl_status_t s = plan_make(p, m);
    if (s != dnnl_success) {
        plan_free(p);
        return s;
    }
    p->next = atomic_load_explicit(&m->plans, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&m->plans, &p->next, p, memory_order_release, memory_order_relaxed)) {
    }
    *out = p;
    return dnnl_success;
}

/* ---- running one plan ---- */

typedef struct {
    dnnl_exec_arg_t list[5];
    int count;
} arguments;

static dnnl_status_t argument_add(arguments *args, const nr_dnnl_matrix *m, int which, const dnnl_memory_desc_t *desc,
                                  const void *data)
{
    dnnl_memory_t memory = NULL;
    dnnl_status_t s = dnnl_memory_create(&memory, desc, m->engine, (void *)(uintptr_t)data);
    if (s == dnnl_success) args->list[args->count++] = (dnnl_exec_arg_t){which, memory};
    return s;
}

/* The handles made here are small (0.1 us each); oneDNN makes an argument list of its own at every execution anyway. */
dnnl_status_t nr_primitive_run(const nr_primitive *p, const nr_dnnl_matrix *m, const void *a, const void *b, void *c, const float *bias)
{
    _Alignas(64) char stack[STACK_SCRATCH];
    void *heap = NULL, *scratch = stack;
    bool reorder = p->kind == NR_PRIMITIVE_PACK_FORWARD || p->kind == NR_PRIMITIVE_PACK_BACK_INPUT;
    arguments args = {.count = 0};
    dnnl_status_t s = argument_add(&args, m, DNNL_ARG_SRC, &p->a, a);
    if (s == dnnl_success) s = argument_add(&args, m, DNNL_ARG_DST, &p->c, c);
    if (s == dnnl_success && !reorder) s = argument_add(&args, m, DNNL_ARG_WEIGHTS, &p->b, b);
    if (s == dnnl_success && bias) s = argument_add(&args, m, DNNL_ARG_BIAS, &p->bias, bias);
    if (s == dnnl_success && p->scratch_size > sizeof stack) {
        scratch = heap = aligned_alloc(64, nr_round_up(p->scratch_size, 64));
        if (!heap) s = dnnl_out_of_memory;
    }
    if (s == dnnl_success) s = argument_add(&args, m, DNNL_ARG_SCRATCHPAD, p->scratch, scratch);
    if (s == dnnl_success) {
        size_t threads = nr_threads_get();
        if (threads != 1) nr_threads_set(1); /* kernels that look at run time see one thread */
        s = dnnl_primitive_execute(p->primitive, m->stream, args.count, args.list);
        if (threads != 1) nr_threads_set(threads);
    }
    for (int i = 0; i < args.count; i++) dnnl_memory_destroy(args.list[i].memory);
    free(heap);
    return s;
}

/* ---- life ---- */

dnnl_status_t nr_dnnl_engine(dnnl_engine_t *engine)
{
#if defined(NR_NO_AVX512)
    dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2); /* heard before the library's first use only */
#endif
    return dnnl_engine_create(engine, dnnl_cpu, 0);
}

dnnl_status_t nr_dnnl_start(nr_dnnl_matrix *m)
{
    dnnl_status_t s = nr_dnnl_engine(&m->engine);
    return s == dnnl_success ? dnnl_stream_create(&m->stream, m->engine, dnnl_stream_default_flags) : s;
}

void nr_dnnl_end(nr_dnnl_matrix *m)
{
    for (nr_primitive *p = atomic_load(&m->plans), *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    if (m->stream) dnnl_stream_destroy(m->stream);
    if (m->engine) dnnl_engine_destroy(m->engine);
    free(m->forward.data);
    free(m->back_input.data);
    free(m->bias);
}

/* ---- packings ---- */

dnnl_status_t nr_packing_choose(nr_packing *p, dnnl_engine_t engine, size_t depth, size_t cols, dnnl_data_type_t type)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t product;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_dims_t dims = {(dnnl_dim_t)depth, (dnnl_dim_t)cols};
    dnnl_status_t s = desc_strided(&a, PACK_ROWS, depth, type == dnnl_s8 ? dnnl_u8 : type, depth, 1);
    if (s == dnnl_success) s = dnnl_memory_desc_init_by_tag(&b, 2, dims, type, dnnl_format_tag_any);
    if (s == dnnl_success) s = desc_strided(&c, PACK_ROWS, cols, type == dnnl_s8 ? dnnl_s32 : dnnl_f32, cols, 1);
    if (s == dnnl_success) s = dnnl_matmul_desc_init(&product, &a, &b, NULL, &c);
    size_t threads = nr_threads_get();
    nr_threads_set(1);
    if (s == dnnl_success) s = dnnl_primitive_desc_create(&desc, &product, NULL, engine, NULL);
    nr_threads_set(threads);
    if (s != dnnl_success) return s;
    p->desc = *dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_destroy(desc);
    p->depth = depth;
    p->cols = cols;
    p->depth_block = p->cols_block = 1;
    if (p->desc.format_kind != dnnl_blocked) return dnnl_unimplemented;
    const dnnl_blocking_desc_t *inner = &p->desc.format_desc.blocking;
    for (int i = 0; i < inner->inner_nblks; i++)
        *(inner->inner_idxs[i] == 0 ? &p->depth_block : &p->cols_block) *= (size_t)inner->inner_blks[i];
    return NR_PACK_PIECE % p->depth_block || NR_PACK_PIECE % p->cols_block ? dnnl_unimplemented : s;
}

bool nr_packing_has_panels(const nr_packing *p)
{
    const dnnl_blocking_desc_t *b = &p->desc.format_desc.blocking;
    bool int8 = p->desc.data_type == dnnl_s8;
    if (p->desc.data_type != dnnl_bf16 && !int8) return false;
    return (int8 ? nr_panel_int8() : nr_panel_kernels_of(NR_BF16)) && b->inner_nblks == 3 && b->inner_idxs[0] == 0 && b->inner_idxs[1] == 1 &&
           b->inner_blks[1] == NR_PANEL && b->inner_idxs[2] == 0 && b->inner_blks[2] == (int8 ? 4 : 2) &&
           b->strides[0] == (dnnl_dim_t)(p->depth_block * NR_PANEL);
}

size_t nr_packing_panel_bytes(const nr_packing *p)
{
    return (size_t)p->desc.format_desc.blocking.strides[1] * dnnl_data_type_size(p->desc.data_type);
}

char *nr_packing_at(const nr_packing *p, size_t depth, size_t col)
{
    const dnnl_dim_t *stride = p->desc.format_desc.blocking.strides;
    size_t offset = depth / p->depth_block * (size_t)stride[0] + col / p->cols_block * (size_t)stride[1];
    return p->data + offset * dnnl_data_type_size(p->desc.data_type);
}

nr_status nr_packing_make(nr_dnnl_matrix *m, nr_packing *p, size_t depth, size_t cols, dnnl_data_type_t type, nr_error *err)
{
    dnnl_status_t s = nr_packing_choose(p, m->engine, depth, cols, type);
    if (s != dnnl_success) return nr_dnnl_refuse(m, s, "product", (size_t)PACK_ROWS, err);
    return nr_alloc(&p->data, dnnl_memory_desc_get_size(&p->desc), 1, "a packed matrix", err);
}

dnnl_status_t nr_pack_plan_make(nr_pack_plan *plan, nr_dnnl_matrix *m)
{
    size_t out = m->head.out, in = m->head.in, count = (out + NR_PACK_PIECE - 1) / NR_PACK_PIECE;
    *plan = (nr_pack_plan){.pieces = {count, NR_PACK_PIECE, out - (count - 1) * NR_PACK_PIECE}};
    dnnl_status_t s = dnnl_success;
    for (int last = 0; last < 2 && s == dnnl_success; last++) {
        size_t n = last ? plan->pieces.last : plan->pieces.size;
        if (!last && count == 1) continue;
        nr_primitive forward = {.kind = NR_PRIMITIVE_PACK_FORWARD, .cols = n, .depth = in};
        nr_primitive back_input = {.kind = NR_PRIMITIVE_PACK_BACK_INPUT, .depth = n, .cols = in};
        if (m->forward.data) s = nr_primitive_get(&plan->forward[last], m, &forward);
        if (s == dnnl_success && m->back_input.data) s = nr_primitive_get(&plan->back_input[last], m, &back_input);
    }
    return s;
}
