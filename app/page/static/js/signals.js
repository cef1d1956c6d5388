/** Reactive values: an effect runs again when a signal that it read has changed. */

/**
 * @typedef {{run: () => void, sources: Set<Set<Effect>>, queued: boolean, ended: boolean}} Effect
 * @typedef {Array<() => void>} Scope
 */

/** @type {Effect | null} */
let active = null;
/** @type {Scope | null} */
let owner = null;
/** @type {Effect[]} */
let queue = [];
let scheduled = false;

/**
 * @template T
 * @typedef {{value: T, peek: () => T}} Signal
 */

/**
 * Create a signal. Reading `value` in an effect subscribes the effect; writing another value runs it again.
 * @template T
 * @param {T} initial
 * @returns {Signal<T>}
 */
export function signal(initial) {
  let present = initial;
  /** @type {Set<Effect>} */
  const readers = new Set();
  return {
    get value() {
      if (active) {
        readers.add(active);
        active.sources.add(readers);
      }
      return present;
    },
    set value(next) {
      if (Object.is(next, present)) return;
      present = next;
      for (const reader of readers) enqueue(reader);
    },
    peek: () => present,
  };
}

/**
 * Create a signal whose value is computed from other signals.
 * @template T
 * @param {() => T} compute
 * @returns {{readonly value: T, peek: () => T}}
 */
export function computed(compute) {
  /** @type {Signal<T>} */
  const result = signal(/** @type {T} */ (undefined));
  effect(() => {
    result.value = compute();
  });
  return result;
}

/**
 * Run a function now, and again after each change of a signal that it read. The function may return a cleanup, which
 * runs before the next run and at the end of the scope.
 * @param {() => void | (() => void)} body
 * @returns {() => void} ends the effect
 */
export function effect(body) {
  /** @type {Scope} */
  let inner = [];
  const clean = () => {
    for (const cleanup of inner.reverse()) cleanup();
    inner = [];
  };
  /** @type {Effect} */
  const self = {
    sources: new Set(),
    queued: false,
    ended: false,
    run: () => {
      forget(self);
      clean();
      const [outerActive, outerOwner] = [active, owner];
      [active, owner] = [self, inner];
      try {
        const cleanup = body();
        if (typeof cleanup === "function") inner.push(cleanup);
      } finally {
        [active, owner] = [outerActive, outerOwner];
      }
    },
  };
  const end = () => {
    self.ended = true;
    forget(self);
    clean();
  };
  owner?.push(end);
  self.run();
  return end;
}

/**
 * Run a function without subscribing the running effect to what it reads.
 * @template T
 * @param {() => T} body
 * @returns {T}
 */
export function untracked(body) {
  const outer = active;
  active = null;
  try {
    return body();
  } finally {
    active = outer;
  }
}

/**
 * Run a function whose effects and cleanups end together.
 * @template T
 * @param {() => T} body
 * @returns {{value: T, end: () => void}}
 */
export function scope(body) {
  /** @type {Scope} */
  const cleanups = [];
  const [outerActive, outerOwner] = [active, owner];
  [active, owner] = [null, cleanups];
  try {
    const value = body();
    return {
      value,
      end: () => {
        for (const cleanup of cleanups.splice(0).reverse()) cleanup();
      },
    };
  } finally {
    [active, owner] = [outerActive, outerOwner];
  }
}

/**
 * Run a function when the present scope or effect ends.
 * @param {() => void} cleanup
 */
export function onEnd(cleanup) {
  owner?.push(cleanup);
}

/** Run the effects that wait now. Otherwise they run in the next microtask. */
export function flush() {
  scheduled = false;
  while (queue.length) {
    const ready = queue;
    queue = [];
    for (const each of ready) {
      each.queued = false;
      if (!each.ended) each.run();
    }
  }
}

/** @param {Effect} each */
function enqueue(each) {
  if (each.queued || each.ended) return;
  each.queued = true;
  queue.push(each);
  if (!scheduled) {
    scheduled = true;
    queueMicrotask(flush);
  }
}

/** @param {Effect} each */
function forget(each) {
  for (const readers of each.sources) readers.delete(each);
  each.sources.clear();
}
