/** Two accesses without order: which side the report asks to wait, and which it names as the other way out. */
import { describe, expect, it } from 'vitest';
import type { Accessor } from '../../src/base/hazards.ts';
import { describeHazard } from '../../src/base/hazards.ts';
import type { RaceFacts } from '../../src/base/watch-hazards.ts';
import type { Activity, Work } from '../../src/cache/activity.ts';
import { PastWorks } from '../../src/cache/past-works.ts';
import { CauseHints } from '../../src/trace/cause-hints.ts';
import { app, at, bytesOf, camera, LINE, Machine, nic } from './machine.ts';

const APP_WAITS = "app: wait for fence camera0:1 (job 'draw1') before reading";
const JOB_WAITS = "camera0: let job 'draw1' wait until app has read";

/** The camera's jobs write the first line; `app` accesses it in a task of its own. */
class Race {
  readonly machine = new Machine();
  readonly activity: Activity;
  #works = 0;

  constructor() {
    const { activity } = this.machine.domain;
    if (activity === null) throw new Error('no activity');
    this.activity = activity;
  }

  begin(): Work {
    const n = this.#works++;
    const [name, fence] = [`job 'draw${n}'`, `camera0:${n}`];
    const work = this.activity.submit({
      accessor: camera.accessor,
      name,
      fence,
      remedy: `wait for fence ${fence} (${name})`,
    });
    this.activity.begin(work);
    return work;
  }

  /** A job from its begin to its end, ordered by the task that runs. */
  draw(line = 0): void {
    const work = this.begin();
    this.machine.devicePuts(at(line * LINE), LINE, 1);
    this.activity.end(work);
  }

  /** In another task. */
  reads(accessor: Accessor = app, line = 0): void {
    const { sim, domain } = this.machine;
    sim.run(() => domain.cpuRead(at(line * LINE), new Uint8Array(LINE), 0, LINE, 'uncached', accessor));
  }

  facts(): RaceFacts {
    const [facts, ...more] = this.machine.takeHazards().filter(({ hazard }) => hazard.startsWith('access.'));
    if (facts === undefined || more.length > 0 || !('work' in facts)) throw new Error('no single race');
    return facts;
  }

  /** The second job writes. */
  draws(work: Work): RaceFacts {
    this.machine.devicePuts(at(0), LINE, 2);
    this.activity.end(work);
    return this.facts();
  }
}

describe('a reader while a job is at work on the same bytes', () => {
  it('has to wait for the job, if nothing was there to be read before', () => {
    const race = new Race();
    race.draw(1);
    const work = race.begin();
    race.reads();
    expect(race.draws(work)).toMatchObject({ remedy: APP_WAITS, or: JOB_WAITS });
  });

  it('came in time, if he reads for the first time what an earlier job drew: the next job has to wait for him', () => {
    const race = new Race();
    race.draw();
    const work = race.begin();
    race.reads();
    const facts = race.draws(work);
    expect(facts).toMatchObject({ remedy: JOB_WAITS, or: APP_WAITS, work: "job 'draw1'", fence: 'camera0:1' });
    expect(describeHazard(facts)).toContain(`remedy: ${JOB_WAITS}\n  or: ${APP_WAITS}`);
  });

  it('came in time, if the picture before that was read and the last one was not', () => {
    const race = new Race();
    race.draw();
    race.reads();
    race.draw();
    const work = race.begin();
    race.reads();
    expect(race.draws(work).remedy).toBe("camera0: let job 'draw2' wait until app has read");
  });

  it('came in time also if the job has begun to write already', () => {
    const race = new Race();
    race.draw();
    race.begin();
    race.machine.devicePuts(at(0), LINE, 2);
    race.reads();
    expect(race.facts()).toMatchObject({ remedy: JOB_WAITS, or: APP_WAITS });
  });

  it.each([
    ['he himself', app],
    ['another', nic.accessor],
  ])('came too early, if %s has read the earlier picture, whether a job was at work then or not', (_who, accessor) => {
    const race = new Race();
    race.draw();
    race.reads(accessor);
    const work = race.begin();
    race.reads();
    expect(race.draws(work)).toMatchObject({ remedy: APP_WAITS, or: JOB_WAITS });
  });

  it('has no other way out in the task that ordered the job', () => {
    const race = new Race();
    race.machine.sim.run(() => {
      race.draw();
      const work = race.begin();
      race.machine.domain.cpuRead(at(0), new Uint8Array(LINE), 0, LINE, 'uncached', app);
      const facts = race.draws(work);
      expect(facts.remedy).toBe(APP_WAITS);
      expect(facts).not.toHaveProperty('or');
    });
  });
});

describe('a writer while a job that reads is at work', () => {
  it.each([
    ['', "app: wait for fence camera0:0 (job 'draw0') before writing"],
    ['filled:1', "camera0: let job 'draw0' wait until app has written, which is fence filled:1"],
  ])('with fence %j of a writer in the buffer: %s', (promise, remedy) => {
    const race = new Race();
    const { sim, domain } = race.machine;
    const pending = promise === '' ? ['camera0:0'] : ['camera0:0', promise];
    sim.part(CauseHints).pendingWriters = (object) => (object === 'frame' ? pending : []);
    race.begin();
    race.machine.deviceGets(at(0), LINE);
    sim.run(() => domain.cpuWrite(at(0), bytesOf(LINE, 1), 0, LINE, 'uncached', { ...app, object: 'frame' }));
    expect(race.facts().remedy).toBe(remedy);
  });
});

describe('works that are over', () => {
  it('are kept up to a limit, the youngest, and only if they wrote', () => {
    const race = new Race();
    const past = new PastWorks();
    for (let n = 0; n < past.limit + 5; n++) race.draw(n);
    race.activity.end(race.begin());
    const writerOf = (line: number) => race.activity.writerOf(camera.accessor, at(line * LINE))?.fence;
    expect([writerOf(4), writerOf(5), writerOf(past.limit + 4), writerOf(past.limit + 5)]).toEqual([
      ...[undefined, 'camera0:5', `camera0:${past.limit + 4}`, undefined],
    ]);
  });
});
