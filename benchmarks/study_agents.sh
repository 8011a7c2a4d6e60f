#!/usr/bin/env bash
# The study of docs/agents.md by its commands: expert video, cloning, rewards, learning in the dream, PPO, planning.
# Each step goes on where it was stopped. FRAMES, STEPS, MINUTES, GOALS, LEVELS and SEEDS make it shorter or longer.
# EXPERT_FRAMES is the expert's share of the video, FRAMES if it is left out.
# GAME=miner WORLD=runs/miner SIZE=80 takes another game and its own world, whose frames have 80x80 pixels.
# Usage: study_agents.sh GENIE [FOLDER]
set -eu
genie=$(realpath "$1") python=$(dirname "$(realpath "$1")")/python
ppo=$(dirname "$(realpath "$0")")/../examples/dream_ppo.py
game=${GAME:-coinrun} world=${WORLD:-coinrun-tiny}
[ -d "$world" ] && world=$(realpath "$world")
mkdir -p "${2:-runs/study-agents}/videos"
cd "${2:-runs/study-agents}"
frames=${FRAMES:-12000} expert_frames=${EXPERT_FRAMES:-${FRAMES:-12000}} steps=${STEPS:-800} minutes=${MINUTES:-15} goals=${GOALS:-10} labels=500
levels=${LEVELS:-100} seeds=${SEEDS:-5} limit=${LIMIT:-1000}
video=() store=() decoder=()
[ -n "${SIZE:-}" ] && video=(--size "$SIZE") store=(--height "$SIZE" --width "$SIZE")

case $game in
  coinrun)
    expert=lookahead other=mixture look='{"use_backgrounds": false, "restrict_themes": true}' ;;
  miner | maze) # each move is one cell, and no constant action wins
    expert=nearest other=restless look='{"use_backgrounds": false}'
    decoder=(--decoder dictionary) video+=(--actions '[left,right,up,down]') ;;
  *) echo "GAME: $game has no expert here; choose coinrun, miner or maze" >&2; exit 2 ;;
esac
real=(--game.env "procgen:$game" --game.options "$look" --game.levels "$levels" --game.seeds "$seeds"
  --game.max_steps "$limit")

record() { # name and options; a recording that was stopped begins anew
  [ -e "videos/$1.done" ] && return
  rm -rf "videos/$1"
  "$genie" record "procgen:$game" --out "videos/$1" --options "$look" --num_levels 100000 \
    "${video[@]}" "${@:2}"
  touch "videos/$1.done"
}

train_ppo() { # name and options
  [ -e "$1.json" ] && return
  "$python" "$ppo" world data/all --env "procgen:$game" --options "$look" --levels "$levels" --seeds "$seeds" \
    --max_steps "$limit" --mapper clone --report "$1.json" "${@:2}"
}

record expert --frames "$expert_frames" --policy "$expert" --random_action_prob 0.1
record mixed --frames "$frames" --policy "$other" --max_episode_frames 400 --seed 77
"$genie" prepare videos/expert --out data/expert --fps 15 "${store[@]}"
"$genie" prepare videos --out data/all --fps 15 "${store[@]}"
"$genie" agent clone "$world" --data data/expert --out clone --labels "$labels" --counts '[50,200,1000]' \
  --decoders '[dictionary,head]' --training.steps "$steps" --training.channels '[8,16,16]' "${decoder[@]}" "${real[@]}"
"$genie" train --from "$world" --data data/all --out world --stages '[reward]' --minutes "$minutes"
"$genie" agent dream world --data data/all --out dreamer --start clone --dreams 0 --minutes "$minutes" "${real[@]}"
"$genie" agent dream world --data data/all --out from-nothing --mapper clone --dreams 0 --minutes "$minutes" "${real[@]}"
# PPO gets as many steps of the dream as the agent that began with nothing had, and as many frames of the real game
# as the heads and the mapper saw labelled.
dreamt=$("$python" -c 'import json; r = json.load(open("from-nothing/report.json"))
print(r["dreams"] * r["learning"]["games"] * r["learning"]["horizon"])')
seen=$("$python" -c 'import sys, genie; s = genie.ClipStore.open("data/all")
print(sum(e.length for e in s.episodes_in_split("train")) + int(sys.argv[1]))' "$labels")
train_ppo ppo-dream --steps "$dreamt"
train_ppo ppo-real --real_steps "$seen"
"$genie" agent play dreamer --world world --video both.mp4 --env "procgen:$game" --options "$look"
[ "$game" = coinrun ] || exit 0
"$genie" agent plan "$world" --goals "$goals" --min_distance 4 --options "$look" --methods '[random,named,latent,simulator]' --out planning.json
