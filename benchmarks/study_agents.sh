#!/usr/bin/env bash
# The study of docs/agents.md by its commands: expert video, cloning, rewards, learning in the dream, planning.
# Each step goes on where it was stopped. FRAMES, STEPS, MINUTES and GOALS make it shorter or longer.
# Usage: study_agents.sh GENIE [FOLDER]
set -eu
genie=$(realpath "$1")
mkdir -p "${2:-runs/study-agents}/videos"
cd "${2:-runs/study-agents}"
frames=${FRAMES:-12000} steps=${STEPS:-800} minutes=${MINUTES:-15} goals=${GOALS:-10}
look='{use_backgrounds: false, restrict_themes: true}'

record() { # name and options; a recording that was stopped begins anew
  [ -e "videos/$1.done" ] && return
  rm -rf "videos/$1"
  "$genie" record procgen:coinrun --out "videos/$1" --frames "$frames" --options "$look" --num_levels 100000 "${@:2}"
  touch "videos/$1.done"
}

record expert --policy lookahead --random_action_prob 0.1
record mixed --policy mixture --max_episode_frames 400 --seed 77
"$genie" prepare videos/expert --out data/expert --fps 15
"$genie" prepare videos --out data/all --fps 15
"$genie" agent clone coinrun-tiny --data data/expert --out clone --labels 500 --counts '[50,200,1000]' \
  --decoders '[dictionary,head]' --training.steps "$steps" --training.channels '[8,16,16]' --game.options "$look"
"$genie" train --from coinrun-tiny --data data/all --out world --stages '[reward]' --minutes "$minutes"
"$genie" agent dream world --data data/all --out dreamer --start clone --dreams 0 --minutes "$minutes" --game.options "$look"
"$genie" agent plan coinrun-tiny --goals "$goals" --min_distance 4 --options "$look" --methods '[random,named,latent,simulator]' --out planning.json
