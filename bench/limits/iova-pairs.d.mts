export function exercise(
  allocator: { alloc(size: number, limit: number): number; free(page: number, size: number): void },
  space: string,
  live: number,
  pairs: number,
  seconds: () => number,
): { readonly value: number; readonly sum: number };
