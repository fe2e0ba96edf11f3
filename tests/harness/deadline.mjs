//! Waiting with a deadline. A test that waits for something says what it waits for, and for how long at most.

/** What most events on one machine may take. Generous, because CI shares two cores between everything. */
export const SOON_MS = 15_000;

/**
 * The result of `promise`, or an error that names what did not happen in time.
 *
 * @template T
 * @param {string} what what is awaited, as the end of a sentence
 * @param {Promise<T>} promise
 * @param {number} [ms]
 * @returns {Promise<T>}
 */
export async function within(what, promise, ms = SOON_MS) {
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const deadline = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no ${what} within ${ms} ms`)), ms);
    });
    try {
        return await Promise.race([promise, deadline]);
    } finally {
        clearTimeout(timer);
    }
}

/**
 * Asks `probe` until it gives something truthy. Errors of the probe count as "not yet"; the last one is told when the
 * deadline passes.
 *
 * @template T
 * @param {string} what
 * @param {() => T | Promise<T>} probe
 * @param {number} [ms]
 * @returns {Promise<NonNullable<T>>}
 */
export async function eventually(what, probe, ms = SOON_MS) {
    const end = Date.now() + ms;
    let last = 'it was never true';
    for (;;) {
        try {
            const value = await probe();
            if (value) return value;
        } catch (error) {
            last = String(error);
        }
        if (Date.now() > end) throw new Error(`no ${what} within ${ms} ms: ${last}`);
        await pause(25);
    }
}

/**
 * The time between two looks at something. Never a way to wait for an event.
 *
 * @param {number} ms
 */
export function pause(ms) {
    return new Promise(resolve => setTimeout(resolve, ms));
}

/** Things that arrive one by one, and can be awaited by what they are. */
export class Inbox {
    /** @param {string} owner whose inbox it is, for the error */
    constructor(owner) {
        this.owner = owner;
        /** @type {any[]} */
        this.all = [];
        /** @type {Set<() => void>} */
        this.waiting = new Set();
    }

    /** @param {any} item */
    push(item) {
        this.all.push(item);
        for (const look of this.waiting) look();
    }

    /**
     * The first item for which `matches` holds, past or future.
     *
     * @param {string} what
     * @param {(item: any) => boolean} matches
     * @param {number} [ms]
     */
    async first(what, matches, ms = SOON_MS) {
        return (await this.until(what, () => this.all.some(matches), ms)).find(matches);
    }

    /**
     * All items, once there are `count` of them for which `matches` holds.
     *
     * @param {string} what
     * @param {number} count
     * @param {(item: any) => boolean} matches
     * @param {number} [ms]
     */
    async atLeast(what, count, matches, ms = SOON_MS) {
        const all = await this.until(`${count} × ${what}`, () => this.all.filter(matches).length >= count, ms);
        return all.filter(matches);
    }

    /**
     * @param {string} what
     * @param {() => boolean} condition
     * @param {number} ms
     */
    async until(what, condition, ms) {
        if (!condition()) {
            /** @type {() => void} */
            let look = () => {};
            const seen = new Promise(resolve => {
                look = () => condition() && resolve(undefined);
                this.waiting.add(look);
            });
            try {
                await within(`${what} for ${this.owner}`, seen, ms);
            } catch (error) {
                const tail = this.all.slice(-8).map(item => JSON.stringify(item)?.slice(0, 160));
                throw new Error(`${/** @type {Error} */ (error).message}; it has ${this.all.length}: ${tail.join(' ')}`);
            } finally {
                this.waiting.delete(look);
            }
        }
        return this.all;
    }
}
