// The player's games in the tab: what genie/serving/play does on a server, for one player.

import { Devices } from "./devices.js";

const MAX_GAMES = 4;
const MAX_QUEUED = 8; // single steps that may wait
const MAX_UNACKNOWLEDGED = 2; // frames on their way to the page
const VIDEO_SECONDS = 60;

/** The actions of a game. The state follows: steps that it lacks are played again. */
class Game {
  constructor(begin, actions, sampling) {
    Object.assign(this, { begin, actions, sampling });
    this.state = null;
    this.step = -1; // of the state
    this.marks = new Map(); // earlier states by their step, fewer the older they are
    this.video = []; // step and frame of the last minute
    this.rewindTo = null;
    this.shows = false; // its frame is due without a step
    this.hiddenUntil = 0; // frames of earlier steps were shown already
    this.device = "cpu"; // or "webgpu", once it computed a frame
  }

  get behind() {
    return this.actions.length - this.step;
  }

  get needsTurn() {
    return this.state === null || this.rewindTo !== null || this.shows;
  }

  play(action, sampling) {
    this.actions.push(action);
    this.sampling.push(sampling);
  }

  undo(steps) {
    const kept = Math.max(0, this.actions.length - steps);
    this.actions.length = this.sampling.length = kept;
    this.rewindTo = Math.min(kept, this.rewindTo ?? kept); // two undos may come before a turn
    this.hiddenUntil = kept;
    this.video = this.video.filter(([step]) => step <= kept);
  }

  /** Keeps a frame for a video of `most` frames. */
  keep(step, frame, most) {
    while (this.video.length && this.video.at(-1)[0] >= step) this.video.pop();
    this.video.push([step, frame]);
    if (this.video.length > most) this.video.shift();
  }

  /** Takes the state after a step. */
  put(state, step) {
    [this.state, this.step] = [state, step];
    this.marks.set(step, state);
    for (const mark of this.marks.keys()) {
      const spacing = 2 ** Math.floor(Math.log2(Math.max(1, step - mark)));
      if (mark > step || mark % spacing) this.marks.delete(mark);
    }
  }

  /** Goes back to the last mark that is not after `rewindTo`. */
  rewind() {
    if (this.rewindTo < this.step) {
      const mark = Math.max(...[...this.marks.keys()].filter((step) => step <= this.rewindTo));
      this.put(this.marks.get(mark), mark);
    }
    this.rewindTo = null;
  }

  copy() {
    const made = Object.assign(new Game(this.begin, [...this.actions], [...this.sampling]), {
      state: this.state, step: this.step, rewindTo: this.rewindTo, shows: true,
      hiddenUntil: this.actions.length, device: this.device,
    });
    made.marks = new Map(this.marks);
    made.video = [...this.video];
    return made;
  }
}

/**
 * Plays the messages of the page (genie/serving/protocol.py) on a `World`. `post(name, detail)`
 * sends an event of a connection; `promptOf(prompt)` returns {frame, png} of a start message's prompt;
 * `encode(frames, format)` returns a video as a Blob.
 */
export class Session {
  #world;
  #post;
  #promptOf;
  #encode;
  #devices;
  #games = new Map();
  #current = 0;
  #gameCount = 0;
  #sampling;
  #held = [];
  #tapped = null;
  #idle = null;
  #paused = false;
  #every = 1;
  #previews = [];
  #seq = 0;
  #frameId = 0;
  #unacknowledged = [];
  #latest = null;
  #resting = []; // who waits until the game rests
  #due = 0;
  #wake = () => {};

  constructor(world, post, promptOf, encode) {
    [this.#world, this.#post, this.#promptOf, this.#encode] = [world, post, promptOf, encode];
    this.#sampling = world.about.sampling;
    this.#devices = new Devices(world, (played) => post("device", played), () => this.#atRest());
  }

  get #game() {
    return this.#games.get(this.#current);
  }

  async receive(message) {
    const handlers = {
      start: () => this.#start(message),
      keys: () => this.#keys(message),
      idle: () => { this.#idle = message.action; },
      pause: () => { this.#paused = message.paused; },
      pace: () => { this.#every = message.every; },
      step: () => this.#queueStep(message),
      undo: () => this.#undo(message),
      branch: () => this.#branch(),
      switch: () => this.#switch(message.game),
      close: () => this.#close(message.game),
      sampling: () => this.#choose(message),
      peek: () => this.#queuePreviews(message),
      save: () => this.#save(),
      device: () => { this.#devices.choose(message.device); }, // the game goes on meanwhile
      film: () => { this.#sendVideo(message.format); }, // the game goes on meanwhile
      ack: () => this.#acknowledge(message.frame),
    };
    await handlers[message.type]?.();
    this.#wake();
  }

  /** Plays until the worker ends. A missed tick is not made up for. */
  async run() {
    for (;;) {
      if (!this.#hasWork()) {
        await this.#wait();
        continue;
      }
      if (this.#inRealTime()) {
        const wait = this.#due - performance.now();
        if (wait > 0) {
          await this.#wait(wait); // what needs no tick does not wait for one
          continue;
        }
        this.#due = Math.max(this.#due, performance.now()) + (1000 * this.#every) / this.#world.about.fps;
      }
      await this.#turn();
      await letMessagesIn();
    }
  }

  /** Resolves when nothing is to be played now, with what a frame is computed from. */
  #atRest() {
    return new Promise((resolve) => {
      this.#resting.push(() => resolve({ state: this.#game.state, action: 0, sampling: this.#sampling }));
      this.#wake();
    });
  }

  /** Waits until something is to be done, at most some milliseconds. */
  async #wait(milliseconds = Infinity) {
    if (this.#game?.state) this.#resting.splice(0).forEach((tell) => tell());
    await new Promise((resolve) => {
      this.#wake = resolve;
      if (milliseconds < Infinity) setTimeout(resolve, milliseconds);
    });
  }

  #hasWork() {
    const game = this.#game;
    if (!game) return false;
    return game.needsTurn || game.behind > 0 || this.#isRunning() || this.#previews.length > 0;
  }

  #inRealTime() {
    const game = this.#game;
    return !game.needsTurn && game.behind <= 0 && this.#isRunning();
  }

  #isRunning() {
    return !this.#paused && this.#action() !== null;
  }

  #action() {
    return this.#tapped ?? this.#held.at(-1) ?? this.#idle;
  }

  async #turn() {
    const game = this.#game;
    const started = performance.now();
    if (game.needsTurn) {
      this.#previews = [];
      if (game.state === null) this.#noteDevice(game);
      if (game.state === null) game.put(await this.#world.start(game.begin.frame, game.begin.seed), 0);
      if (game.rewindTo !== null) game.rewind();
      game.shows = false;
      this.#show(game, game.state.frame, game.step, this.#seqOf(game), started);
      return;
    }
    if (game.behind <= 0 && !this.#isRunning()) {
      await this.#preview(game, started);
      return;
    }
    if (game.behind <= 0) {
      game.play(this.#action(), this.#sampling);
      this.#tapped = null;
    }
    this.#previews = [];
    const { step, state } = game;
    const seq = this.#seqOf(game);
    const sampling = game.sampling[step];
    const action = await this.#world.latentOf(game.actions[step], state.frame);
    this.#noteDevice(game);
    const predicted = await this.#world.predict(state, action, sampling);
    const wanted = game.rewindTo === null && game.state === state;
    const stays = game.rewindTo === null || game.rewindTo > step;
    if (stays) game.actions[step] = action; // replays hold what was played
    if (wanted) this.#show(game, predicted.frame, step + 1, seq, started);
    const next = await this.#world.commit(predicted);
    if (game.rewindTo === null || game.rewindTo > step) game.put(next, step + 1);
  }

  /** WebGPU rounds in another way, so a replay says that it computed a frame. */
  #noteDevice(game) {
    if (this.#world.device === "webgpu") game.device = "webgpu";
  }

  #seqOf(game) {
    return game.behind <= 1 ? this.#seq : 0;
  }

  #show(game, frame, step, lastInput, started) {
    game.keep(step, frame, VIDEO_SECONDS * this.#world.about.fps);
    if (game !== this.#game || step < game.hiddenUntil) return;
    this.#frameId += 1;
    this.#latest = this.#packed(frame, step, lastInput, started);
    this.#send();
  }

  #packed(frame, step, lastInput, started) {
    const generationMs = performance.now() - started;
    return { id: this.#frameId, step, lastInput, generationMs, previewAction: 0, rgb: frame };
  }

  #send() {
    if (this.#latest === null || this.#unacknowledged.length >= MAX_UNACKNOWLEDGED) return;
    this.#unacknowledged.push(this.#latest.id);
    this.#post("frame", this.#latest);
    this.#latest = null;
  }

  /** Plays one step of the previews, so that a key press waits for one step only. */
  async #preview(game, started) {
    const preview = this.#previews[0];
    const from = preview.state ?? game.state;
    const action = await this.#world.latentOf(preview.action, from.frame);
    const predicted = await this.#world.predict(from, action, this.#sampling);
    preview.left -= 1;
    if (this.#previews[0] !== preview) return; // the game went on meanwhile
    if (preview.left > 0) {
      preview.state = await this.#world.commit(predicted);
      return;
    }
    this.#previews.shift();
    const frame = this.#packed(predicted.frame, game.step, this.#seq, started);
    this.#post("preview", { ...frame, previewAction: preview.action + 1 });
  }

  async #start({ seq, prompt, seed, actions = [], sampling = [], hash = null }) {
    const { about } = this.#world;
    const refused = (text) => this.#post("note", { type: "refused", message: text });
    if (hash !== null && hash !== about.hash) {
      refused("this game was played in another world, or in another training of it");
      return;
    }
    let given;
    try {
      given = await this.#promptOf(prompt);
      this.#check(actions, sampling);
    } catch (error) {
      if (prompt === 0 && !given) throw error; // without the first picture there is nothing to start from
      refused(error.message);
      return;
    }
    const begin = { prompt, ...given, seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1 };
    const changes = sampling.length ? sampling : [{ step: 0, sampling: this.#sampling }];
    const perStep = actions.map((_, step) => changes.findLast((change) => change.step <= step).sampling);
    this.#games.set(this.#current, new Game(begin, [...actions], perStep));
    [this.#seq, this.#paused, this.#held, this.#tapped] = [seq, false, [], null];
    const index = typeof prompt === "number" ? prompt : null;
    this.#post("note", { type: "started", prompt: index, seed: begin.seed });
  }

  /** Throws what is wrong with the actions and the sampling of a game that is opened. */
  #check(actions, changes) {
    const { num_actions: count } = this.#world.about;
    if (actions.some((action) => !(action >= 0 && action < count))) {
      throw new Error(`actions: this world has 0 to ${count - 1}`);
    }
    if (changes.length && (changes[0].step !== 0 || !changes.every(({ sampling }) => this.#canPlay(sampling)))) {
      throw new Error("this game was played with sampling that a tab cannot play");
    }
  }

  /** The graphs hold top-k, and whether confidence decides. */
  #canPlay({ steps, order, mask_schedule: schedule, temperature, top_k: topK = 0, guidance = 0, reencode_every: every = 0 }) {
    const { sampling: own, graphs } = this.#world.about;
    const orders = own.order === "confidence" ? ["confidence"] : ["random", "halton"];
    return steps >= 1 && temperature >= 0
      && orders.includes(order)
      && ["cosine", "linear", "exponential"].includes(schedule)
      && topK === own.top_k
      && every === 0
      && (guidance === 0 || (guidance > 0 && Boolean(graphs.guided_step)));
  }

  #keys({ held, pressed = null, seq }) {
    const taps = pressed ?? held.filter((action) => !this.#held.includes(action));
    this.#tapped = taps.at(-1) ?? this.#tapped;
    [this.#held, this.#seq] = [held, seq];
  }

  #queueStep({ action, seq }) {
    const game = this.#game;
    if (!game || game.behind >= MAX_QUEUED) return;
    game.play(action, this.#sampling);
    this.#seq = seq;
  }

  #undo({ steps = 1, seq }) {
    const game = this.#game;
    if (!game?.actions.length) return;
    game.undo(steps);
    [this.#seq, this.#tapped] = [seq, null];
  }

  #branch() {
    if (!this.#game || this.#games.size >= MAX_GAMES) return;
    this.#gameCount += 1;
    this.#games.set(this.#gameCount, this.#game.copy());
    this.#current = this.#gameCount;
    this.#tellGames();
  }

  #switch(number) {
    const game = this.#games.get(number);
    if (!game) return;
    [this.#current, this.#tapped] = [number, null];
    game.hiddenUntil = game.actions.length;
    game.shows = true;
    this.#tellGames();
  }

  #close(number) {
    if (number !== this.#current) this.#games.delete(number);
    this.#tellGames();
  }

  #tellGames() {
    const games = [...this.#games].map(([game, { actions }]) => ({ game, step: actions.length }));
    this.#post("note", { type: "games", current: this.#current, games, most: MAX_GAMES });
  }

  #choose({ steps, temperature, guidance = null }) {
    const own = this.#world.about.sampling;
    this.#sampling = {
      ...own,
      steps: steps ?? own.steps,
      temperature: temperature ?? own.temperature,
      guidance: guidance ?? own.guidance,
    };
  }

  #queuePreviews({ steps, real }) {
    const { num_actions: count, real_actions: names } = this.#world.about;
    const actions = real ? names.map((_, i) => count + i) : Array.from({ length: count }, (_, action) => action);
    this.#previews = actions.map((action) => ({ action, left: steps, state: null }));
  }

  #acknowledge(frame) {
    this.#unacknowledged = this.#unacknowledged.filter((sent) => sent > frame);
    this.#send();
  }

  async #sendVideo(format) {
    const frames = (this.#game?.video ?? []).map(([, frame]) => frame);
    if (!frames.length) return;
    try {
      this.#post("video", { picture: await this.#encode(frames, format) });
    } catch (error) {
      this.#post("note", { type: "refused", message: `The video could not be made: ${error.message}` });
    }
  }

  #save() {
    const game = this.#game;
    if (!game) return;
    const { about } = this.#world;
    const { prompt, png, seed } = game.begin;
    const waiting = game.actions.findIndex((action) => action >= about.num_actions);
    const actions = game.actions.slice(0, waiting < 0 ? undefined : waiting);
    const perStep = actions.length ? game.sampling.slice(0, actions.length) : [this.#sampling];
    const sampling = perStep
      .map((settings, step) => ({ step, sampling: settings }))
      .filter(({ step, sampling: settings }) => step === 0
        || JSON.stringify(settings) !== JSON.stringify(perStep[step - 1]));
    this.#post("note", {
      type: "replay",
      gallery: typeof prompt === "number" ? prompt : null,
      replay: {
        world: about.name, hash: about.hash, fps: about.fps, prompt: [png], seed, sampling,
        actions, dtype: "float32", device: game.device, format: "genie-replay", version: 1,
      },
    });
  }
}

const channel = new MessageChannel();

/** Graphs run without leaving the current task, so messages of the page would wait for the last of them. */
function letMessagesIn() {
  return new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });
}
