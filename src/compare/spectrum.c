/*
 * spectrum.c - singular values, for the drawing of gate matrices.
 *
 * They are the roots of the eigenvalues of the smaller of A A' and A' A, in
 * double: Householder's reflections make that matrix tridiagonal, and bisection
 * by Sturm's count finds each eigenvalue. This is 4 n^3 / 3 operations and needs
 * no library; squaring costs half of the digits, so that values below 1e-7 of
 * the largest are noise, which no drawing shows.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare/compare.h"

#define PLACES 65 /* points of a curve */

/* g (n, n) = the products of the rows of a (n, k). */
static void gram(double *g, const double *a, size_t n, size_t k)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double part[4] = {0, 0, 0, 0}; /* four chains, so that the processor needn't wait for one */
            size_t c = 0;
            for (; c + 4 <= k; c += 4)
                for (size_t u = 0; u < 4; u++) part[u] += a[i * k + c + u] * a[j * k + c + u];
            for (; c < k; c++) part[0] += a[i * k + c] * a[j * k + c];
            g[i * n + j] = g[j * n + i] = (part[0] + part[1]) + (part[2] + part[3]);
        }
}

/* p = the lower right part of g, from `from` on, times v. */
static void multiply(double *p, const double *g, const double *v, size_t n, size_t from)
{
    for (size_t i = from; i < n; i++) {
        double part[4] = {0, 0, 0, 0};
        size_t c = from;
        for (; c + 4 <= n; c += 4)
            for (size_t u = 0; u < 4; u++) part[u] += g[i * n + c + u] * v[c + u];
        for (; c < n; c++) part[0] += g[i * n + c] * v[c];
        p[i] = (part[0] + part[1]) + (part[2] + part[3]);
    }
}

/* g becomes tridiagonal: d its diagonal, e what stands beside it (e[0] unused). v, p: (n) scratch. */
static void tridiagonal(double *g, double *d, double *e, double *v, double *p, size_t n)
{
    for (size_t k = 0; k + 1 < n; k++) {
        size_t m = k + 1;
        double norm = 0, vp = 0, vv = 0;
        for (size_t i = m; i < n; i++) norm += g[i * n + k] * g[i * n + k];
        norm = sqrt(norm);
        d[k] = g[k * n + k];
        e[m] = norm;
        if (norm == 0) continue;
        for (size_t i = m; i < n; i++) v[i] = g[i * n + k];
        v[m] += v[m] < 0 ? -norm : norm; /* the reflection that loses no digits; e's sign doesn't matter */
        for (size_t i = m; i < n; i++) vv += v[i] * v[i];
        multiply(p, g, v, n, m);
        for (size_t i = m; i < n; i++) vp += v[i] * p[i];
        for (size_t i = m; i < n; i++) p[i] = 2 / vv * (p[i] - vp / vv * v[i]);
        for (size_t i = m; i < n; i++)
            for (size_t j = m; j < n; j++) g[i * n + j] -= v[i] * p[j] + p[i] * v[j];
    }
    if (n > 0) d[n - 1] = g[(n - 1) * n + n - 1];
}

/* Eigenvalues below x. */
static size_t below(const double *d, const double *e, size_t n, double x)
{
    size_t count = 0;
    double q = 1;
    for (size_t i = 0; i < n; i++) {
        q = d[i] - x - (i > 0 ? e[i] * e[i] / q : 0);
        if (q == 0) q = 1e-300;
        count += q < 0;
    }
    return count;
}

/* Eigenvalue number k from below, all within [0, high]. */
static double eigenvalue(const double *d, const double *e, size_t n, size_t k, double high)
{
    double low = -1e-12 * high;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (below(d, e, n, middle) > k) high = middle;
        else low = middle;
    }
    return (low + high) / 2;
}

nr_status nr_spectrum(double *values, const float *a, size_t rows, size_t cols, nr_error *err)
{
    size_t n = NR_MIN(rows, cols), k = NR_MAX(rows, cols), most;
    double *wide = NULL, *g = NULL, *line = NULL;
    nr_status st;
    if (nr_mul_overflows(n, n, &most)) return nr_fail(err, NR_E_MEMORY, "spectrum: %zu x %zu is too large", rows, cols);
    NR_GO(nr_alloc(&wide, n * k, sizeof *wide, "a matrix", err));
    NR_GO(nr_alloc(&g, most, sizeof *g, "a matrix", err));
    NR_GO(nr_alloc(&line, 4 * n + 4, sizeof *line, "a matrix", err));
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) wide[rows <= cols ? i * k + j : j * k + i] = (double)a[i * cols + j];
    gram(g, wide, n, k);
    double *d = line, *e = line + n, trace = 0;
    tridiagonal(g, d, e, line + 2 * n, line + 3 * n, n);
    for (size_t i = 0; i < n; i++) trace += d[i];
    for (size_t i = 0; i < n; i++) values[n - 1 - i] = sqrt(fmax(0, eigenvalue(d, e, n, i, trace * (1 + 1e-12))));
done:
    free(wide);
    free(g);
    free(line);
    return st;
}

double nr_effective_rank(const double *values, size_t n)
{
    double sum = 0, entropy = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    for (size_t i = 0; i < n && sum > 0; i++)
        if (values[i] > 0) entropy -= values[i] / sum * log(values[i] / sum);
    return sum > 0 ? exp(entropy) : NAN;
}

/* ---- of a model's layers ---- */

typedef struct {
    const nr_model *model;
    const nr_extension *e;
    size_t layer;
    bool there;
    size_t of;
    double rank, places[PLACES];
} job;

/* The gate matrix of a layer as floats, or NULL. */
static float *matrix_of(const job *j, size_t *rows, size_t *cols)
{
    char name[96];
    float *a = NULL;
    if (!j->e) {
        snprintf(name, sizeof name, "model.layers.%zu.mlp.gate_proj.weight", j->layer);
        const nr_tensor *t = nr_model_file_find(j->model->file, name);
        if (!t || nr_alloc(&a, t->shape[0] * t->shape[1], sizeof *a, name, NULL) != NR_OK) return NULL;
        *rows = t->shape[0];
        *cols = t->shape[1];
        for (size_t i = 0; i < *rows; i++) nr_tensor_read(a + i * *cols, t, i, 1);
        return a;
    }
    snprintf(name, sizeof name, "layers.%zu.w_gate", j->layer);
    for (size_t i = 0; i < j->e->param_count; i++) {
        const nr_param *p = &j->e->params[i];
        if (strcmp(p->name, name) != 0 || nr_alloc(&a, p->shape[0] * p->shape[1], sizeof *a, name, NULL) != NR_OK) continue;
        *rows = p->shape[0];
        *cols = p->shape[1];
        for (size_t k = 0; k < *rows * *cols; k++) a[k] = (float)nr_real_get(j->model->ops, nr_param_value(j->e, p), k);
        break;
    }
    return a;
}

static void run_job(void *context, size_t i)
{
    job *j = (job *)context + i;
    size_t rows = 0, cols = 0;
    double *values;
    float *a = matrix_of(j, &rows, &cols);
    if (!a) return;
    size_t n = NR_MIN(rows, cols);
    if (nr_alloc(&values, n, sizeof *values, "singular values", NULL) == NR_OK) {
        j->there = nr_spectrum(values, a, rows, cols, NULL) == NR_OK && values[0] > 0;
        j->of = n;
        j->rank = nr_effective_rank(values, n);
        for (size_t k = 0; j->there && k < PLACES; k++) j->places[k] = values[k * (n - 1) / (PLACES - 1)] / values[0];
        free(values);
    }
    free(a);
}

json_t *nr_gate_spectrum(const nr_model *m, const nr_extension *e)
{
    size_t L = m->config->L, n = 0, of = 0;
    job *jobs;
    double rank = 0, places[PLACES] = {0};
    if (nr_alloc(&jobs, L, sizeof *jobs, "layers", NULL) != NR_OK) return NULL;
    for (size_t l = 0; l < L; l++) jobs[l] = (job){.model = m, .e = e, .layer = l};
    nr_parallel(L, run_job, jobs);
    for (size_t l = 0; l < L; l++) {
        if (!jobs[l].there) continue;
        n++;
        of = jobs[l].of;
        rank += jobs[l].rank;
        for (size_t k = 0; k < PLACES; k++) places[k] += jobs[l].places[k];
    }
    free(jobs);
    if (n == 0) return NULL;
    json_t *list = json_array();
    for (size_t k = 0; k < PLACES; k++) json_array_append_new(list, json_real(places[k] / (double)n));
    return json_pack("{s:f, s:I, s:I, s:o}", "effective_rank", rank / (double)n, "of", (json_int_t)of, "layers", (json_int_t)n, "values", list);
}
