#!/usr/bin/env bash
# The study of docs/agents.md by its commands: expert video, cloning, reward, learning in the dream, planning.
# Each step goes on where it was stopped. Usage: study_agents.sh GENIE [FOLDER]
set -eu
genie=$(realpath "$1")
mkdir -p "${2:-runs/study-agents}"
cd "${2:-runs/study-agents}"
look='{use_backgrounds: false, restrict_themes: true}'

record() { # folder, frames, policy and its options
  [ -e "videos/$1.done" ] && return
  rm -rf "videos/$1"
  "$genie" record procgen:coinrun --out "videos/$1" --frames "$2" --options "$look" --num_levels 100000 "${@:3}"
  touch "videos/$1.done"
}

mkdir -p videos
record expert 12000 --policy lookahead --random_action_prob 0.1
record mixed 14000 --policy mixture --max_episode_frames 400 --seed 77
"$genie" prepare videos/expert --out data/expert --fps 15
"$genie" prepare videos --out data/all --fps 15
"$genie" map coinrun-tiny --data data/all --labels 2000 --out mapper

"$genie" agent clone coinrun-tiny --data data/expert --labels 500 --counts '[50,200,1000]' --out clone \
  --training.steps 800 --training.channels '[8,16,16]' --decoders '[dictionary,head]' --game.options "$look"
"$genie" train --from coinrun-tiny --data data/all --out world --stages '[reward]' --minutes 4
[ -e world/mapper ] || cp -r mapper world/mapper
"$genie" agent dream world --data data/all --out dreamer --start clone --dreams 0 --minutes 15 \
  --learning.games 64 --test.every 8 --test.levels 40 --game.options "$look"
"$genie" agent plan coinrun-tiny --goals 10 --methods '[latent,named,simulator,random]' --options "$look" --out planning.json
