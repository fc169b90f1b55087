/* step_quality.c - drops documents whose share of "good" is below the threshold, judged by their first 64 KiB. */
#include "prepare/flow.h"
#include "prepare/text_model.h"

#define JUDGED ((size_t)64 << 10)

nr_status nr_step_quality(const void *self, nr_record *r, nr_counts *c, nr_error *err)
{
    const nr_quality_options *o = self;
    (void)err;
    if (nr_text_model_share(o->model, r->text.data, NR_MIN(r->text.size, JUDGED), "good") < o->threshold) {
        c->v.quality_poor_documents++;
        r->dropped = true;
        return NR_OK;
    }
    NR_COUNT_OUT(c, quality, &r->text);
    return NR_OK;
}
