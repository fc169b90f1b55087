// fasttext_shim.cc - libfasttext behind four C functions. No exception leaves it.
#include "prepare/fasttext_shim.h"

#include <fasttext/fasttext.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <istream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <vector>

namespace {

const char prefix[] = "__label__";

// Bytes in memory as a stream, without a copy.
class memory_buffer : public std::streambuf {
 public:
  memory_buffer(const char *data, size_t n)
  {
    char *p = const_cast<char *>(data);
    setg(p, p, p + n);
  }
};

// The library reads magic and version apart from the rest.
class checked_model : public fasttext::FastText {
 public:
  void prepare(std::istream &in)
  {
    if (!checkModel(in)) throw std::invalid_argument("not a fastText model");
    loadModel(in);
  }
};

void explain(char *why, size_t size, const char *what) { std::snprintf(why, size, "%s", what); }

}  // namespace

int nr_fasttext_load(void **out, const char *data, size_t n, char *why, size_t why_size)
{
  checked_model *model = nullptr;
  try {
    memory_buffer buffer(data, n);
    std::istream stream(&buffer);
    model = new checked_model();
    model->prepare(stream);
    *out = static_cast<fasttext::FastText *>(model);
    return 0;
  } catch (const std::exception &e) {
    explain(why, why_size, e.what());
  } catch (...) {
    explain(why, why_size, "an unknown failure");
  }
  delete model;
  return -1;
}

void nr_fasttext_free(void *model) { delete static_cast<fasttext::FastText *>(model); }

int nr_fasttext_predict(const void *model, const char *s, size_t n, const char *wanted, char *label, size_t label_size,
                        double *share, int *found)
{
  try {
    const fasttext::FastText *m = static_cast<const fasttext::FastText *>(model);
    memory_buffer buffer(s, n);
    std::istream stream(&buffer);
    std::vector<std::pair<fasttext::real, std::string>> predictions;
    m->predictLine(stream, predictions, wanted ? 1000 : 1, 0.0);
    *found = predictions.empty() ? 0 : 1;
    *share = 0;
    if (label_size > 0) label[0] = 0;
    for (const auto &p : predictions) {
      const char *name = p.second.c_str();
      if (std::strncmp(name, prefix, sizeof prefix - 1) == 0) name += sizeof prefix - 1;
      if (wanted && std::strcmp(name, wanted) != 0) continue;
      if (label_size > 0) std::snprintf(label, label_size, "%s", name);
      *share = p.first > 1 ? 1 : p.first;
      break;
    }
    return 0;
  } catch (...) {
    return -1;
  }
}

int nr_fasttext_train(const char *lines, const char *out, int dim, int epochs, int word_ngrams, int buckets, double rate,
                      char *why, size_t why_size)
{
  try {
    fasttext::Args args;
    args.input = lines;
    args.output = out;
    args.model = fasttext::model_name::sup;
    args.loss = fasttext::loss_name::softmax;
    args.dim = dim;
    args.epoch = epochs;
    args.wordNgrams = word_ngrams;
    args.bucket = buckets;
    args.lr = rate;
    args.minCount = 1;
    args.minn = 0;
    args.maxn = 0;
    args.thread = 1;
    args.verbose = 0;
    fasttext::FastText model;
    model.train(args);
    model.saveModel(out);
    return 0;
  } catch (const std::exception &e) {
    explain(why, why_size, e.what());
  } catch (...) {
    explain(why, why_size, "an unknown failure");
  }
  return -1;
}
