/** Family `iommu-api`: domains, groups and ownership, and mapping by hand, on an IOMMU with second-stage VT-d tables. */
import { hex, type Iova, iova as iovaOf, physAddr } from '../../../src/base/addr.ts';
import { ErrnoError } from '../../../src/base/errors.ts';
import { IommuProt } from '../../../src/iommu/io-pgtable.ts';
import { Iommu, type IommuClient } from '../../../src/iommu/iommu.ts';
import type { IommuDomain } from '../../../src/iommu/iommu-domain.ts';
import { IommuGroup } from '../../../src/iommu/iommu-group.ts';
import { Simulator } from '../../../src/sim/simulator.ts';
import { FrameCounter } from '../../iommu/frame-counter.ts';
import { type Family, firstDifference, type Mismatch } from '../family.ts';
import { protIn } from '../iommu-prot.ts';
import {
  addressIn,
  arrayIn,
  type Json,
  type JsonObject,
  numberIn,
  parseAddress,
  stringIn,
  type VectorCase,
  type VectorOp,
} from '../vector-case.ts';

const family: Family = {
  family: 'iommu-api',
  run(vector: VectorCase): Mismatch | null {
    const replay = Object.hasOwn(vector.setup, 'domains') ? new AttachReplay() : new MapReplay(vector.setup);
    for (const [index, op] of vector.ops.entries()) {
      const difference = firstDifference(`${op.op}.result`, op.result, replay.step(op));
      if (difference !== null) return { op: index, ...difference };
    }
    replay.end();
    const { outstanding } = replay.pages;
    return outstanding === 0 ? null : { op: null, field: '', reason: `${outstanding} table pages are left` };
  },
};
export default family;

/** One unmanaged domain. */
class MapReplay {
  readonly pages = new FrameCounter();
  readonly #domain: IommuDomain;

  constructor(setup: JsonObject) {
    const iommu = new Iommu(new Simulator(), {
      name: 'dmar0',
      pages: this.pages,
      format: 'INTEL_VTD_S2',
      pgsizeBitmap: addressIn(setup, 'pgsize_bitmap'),
      ias: Math.log2(addressIn(setup, 'aperture_end') + 1),
    });
    this.#domain = iommu.allocDomain();
  }

  step(op: VectorOp): JsonObject {
    const domain = this.#domain;
    const at = iovaOf(addressIn(op.args, 'iova'));
    switch (op.op) {
      case 'iommu_map': {
        const sizeBytes = addressIn(op.args, 'size');
        const phys = physAddr(addressIn(op.args, 'paddr'));
        const prot = protIn(op.args);
        const before = domain.pgtable.warnings;
        const ret = answer(() => {
          domain.map(at, phys, sizeBytes, prot);
          return 0;
        });
        return { ret, ...this.#probes(op, [at, at + sizeBytes - 1]), ...this.#warns(before) };
      }
      case 'iommu_map_sg': {
        const sg = arrayIn(op.args, 'sg').map(extentOf);
        const before = domain.pgtable.warnings;
        const extents = {
          origNents: sg.length,
          physAddress: (i: number) => physAddr(sg[i]?.phys ?? 0),
          length: (i: number) => sg[i]?.length ?? 0,
        };
        const ret = answer(() => domain.mapSg(at, extents, IommuProt.read | IommuProt.write));
        return { ret, ...this.#probes(op, []), ...this.#warns(before) };
      }
      case 'iommu_unmap': {
        const before = domain.pgtable.warnings;
        const unmapped = domain.unmap(at, addressIn(op.args, 'size'));
        const warns = this.#warns(before);
        const { result = {} } = op;
        if (!Object.hasOwn(result, 'probe_at')) return { unmapped: hex(unmapped), ...warns };
        const where = arrayIn(result, 'probe_at');
        const probe = where.map((address) => this.#physOf(iovaOf(parseAddress(String(address)))));
        return { unmapped: hex(unmapped), probe_at: where, probe, ...warns };
      }
      case 'iommu_iova_to_phys':
        return { phys: this.#physOf(at) };
      default:
        throw new Error(`unknown operation ${op.op}`);
    }
  }

  end(): void {
    this.#domain.pgtable.check();
    this.#domain.free();
  }

  /** Not every operation was probed. */
  #probes(op: VectorOp, addresses: readonly number[]): JsonObject {
    if (!Object.hasOwn(op.result ?? {}, 'probe')) return {};
    return { probe: addresses.map((address) => this.#physOf(iovaOf(address))) };
  }

  #physOf(at: Iova): string {
    return hex(this.#domain.iovaToPhys(at) ?? 0);
  }

  #warns(before: number): JsonObject {
    const warns = this.#domain.pgtable.warnings - before;
    return warns === 0 ? {} : { warns };
  }
}

/** Devices, their groups, two unmanaged domains, and owners. */
class AttachReplay {
  readonly pages = new FrameCounter();
  readonly #iommu = new Iommu(new Simulator(), { name: 'dmar0', pages: this.pages, format: 'INTEL_VTD_S2' });
  readonly #domains: ReadonlyMap<string, IommuDomain>;
  readonly #devices = new Map<string, IommuClient>();
  readonly #owners = new Map<number, object>();

  constructor() {
    this.#domains = new Map(['D1', 'D2'].map((name) => [name, this.#iommu.allocDomain({ name })]));
    for (const names of [['A'], ['B'], ['M', 'another function of M']]) {
      const group = new IommuGroup(this.#iommu, { name: names[0] ?? '' });
      for (const name of names) {
        const device = { name };
        this.#devices.set(name, device);
        group.addDevice(device);
      }
    }
  }

  step({ op, args }: VectorOp): JsonObject {
    switch (op) {
      case 'iommu_get_domain_for_dev':
        return { domain: this.#nameOf(stringIn(args, 'dev')) };
      case 'iommu_attach_device':
        return done(() => this.#domain(args).attachDevice(this.#device(stringIn(args, 'dev'))));
      case 'iommu_detach_device':
        this.#domain(args).detachDevice(this.#device(stringIn(args, 'dev')));
        return { ret: null };
      case 'iommu_attach_group':
        return done(() => this.#group(args).attach(this.#domain(args)));
      case 'iommu_detach_group':
        this.#group(args).detach(this.#domain(args));
        return { ret: null };
      case 'iommu_group_claim_dma_owner':
        return done(() => this.#group(args).claimDmaOwner(this.#owner(numberIn(args, 'owner'))));
      case 'iommu_group_release_dma_owner':
        this.#group(args).releaseDmaOwner();
        return { ret: null };
      case 'iommu_group_dma_owner_claimed':
        return { ret: this.#group(args).isDmaOwnerClaimed };
      case 'device_iommu_capable':
        if (stringIn(args, 'cap') !== 'IOMMU_CAP_CACHE_COHERENCY') throw new Error('unknown capability');
        return { ret: this.#iommu.cacheCoherency };
      default:
        throw new Error(`unknown operation ${op}`);
    }
  }

  end(): void {
    const groups = new Set([...this.#devices.values()].map((device) => this.#iommu.groupOf(device)));
    for (const group of groups) {
      if (group === null) continue;
      const { domain, defaultDomain } = group;
      if (domain !== null && domain !== defaultDomain) group.detach(domain);
      for (const device of [...group.devices]) group.removeDevice(device);
      group.free();
    }
    for (const domain of this.#domains.values()) domain.free();
  }

  #nameOf(device: string): string {
    const group = this.#iommu.groupOf(this.#device(device));
    const domain = group?.domain ?? null;
    if (domain === (group?.defaultDomain ?? null)) return `default of ${device}`;
    return [...this.#domains].find(([, known]) => known === domain)?.[0] ?? 'another';
  }

  #device(name: string): IommuClient {
    const device = this.#devices.get(name);
    if (device === undefined) throw new Error(`unknown device ${name}`);
    return device;
  }

  #group(args: JsonObject): IommuGroup {
    const group = this.#iommu.groupOf(this.#device(stringIn(args, 'group').replace(/^of /, '')));
    if (group === null) throw new Error('unknown group');
    return group;
  }

  #domain(args: JsonObject): IommuDomain {
    const domain = this.#domains.get(stringIn(args, 'domain'));
    if (domain === undefined) throw new Error('unknown domain');
    return domain;
  }

  #owner(number: number): object {
    const owner = this.#owners.get(number) ?? {};
    this.#owners.set(number, owner);
    return owner;
  }
}

function done(call: () => void): JsonObject {
  return {
    ret: answer(() => {
      call();
      return 0;
    }),
  };
}

function answer(call: () => number): number | string {
  try {
    return call();
  } catch (error) {
    if (error instanceof ErrnoError) return `-${error.code}`;
    throw error;
  }
}

function extentOf(entry: Json): { readonly phys: number; readonly length: number } {
  const [page, offset, length] = Array.isArray(entry) ? entry : [];
  if (typeof page !== 'string' || typeof offset !== 'number' || typeof length !== 'number') {
    throw new Error(`no scatterlist entry: ${JSON.stringify(entry)}`);
  }
  return { phys: parseAddress(page) + offset, length };
}
