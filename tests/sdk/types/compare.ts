// Compares types that were inferred from JavaScript (made) with those that a .d.ts declares. What differs is named by the error.

/** Takes no name: each that is given is an error. */
export declare function none<Names extends never>(): void;

/** The names that only one of two types has. */
export type Only<A, B> = Exclude<keyof A, keyof B> | Exclude<keyof B, keyof A>;

/** The members that cannot be used as they are declared. */
export type Unusable<Made, Declared> = { [K in keyof Made & keyof Declared]-?: Made[K] extends Declared[K] ? never : K }[keyof Made & keyof Declared];

/** The members that are declared otherwise than they are: what is declared could not stand in their place. */
export type Misdeclared<Made, Declared> = {
  [K in keyof Made & keyof Declared]-?: Fits<NonNullable<Declared[K]>, NonNullable<Made[K]>, Made, Declared> extends true ? never : K;
}[keyof Made & keyof Declared];

type Fits<D, M, Made, Declared> = D extends (...args: infer DeclaredArgs) => infer DeclaredResult
  ? M extends (...args: infer MadeArgs) => infer MadeResult
    ? [DeclaredArgs] extends [MadeArgs] ? [Own<DeclaredResult, Made, Declared>] extends [MadeResult] ? true : 'result' : 'parameters'
    : 'no function'
  : [Own<D, Made, Declared>] extends [M] ? true : 'value';

/** A result as it is; where it is the object itself, the object of the other side. */
type Own<Result, Made, Declared> = unknown extends Result ? Result : [Result] extends [Declared] ? Made : Result;
