// The interface that validation libraries share (standardschema.dev), as far as it is used here.
//
// Owns: its types. Does not know: any of the libraries.

export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: ReadonlyArray<{ readonly message: string }> };

/** One schema for every event, or one for each event type. */
export type Schemas = StandardSchema | { readonly [event: string]: StandardSchema };

export type SchemaEvents<S extends Schemas> =
  S extends StandardSchema<infer Output> ? { [event: string]: Output }
  : { [K in keyof S]: S[K] extends StandardSchema<infer Output> ? Output : never };

/** The data as the schema for its event has it; throws why it does not fit. */
export function checked(schemas: Schemas | undefined, event: string, data: unknown): unknown {
  const schema = schemas && '~standard' in schemas ? (schemas as StandardSchema) : schemas?.[event];
  if (!schema) return data;
  const judge = (result: SchemaResult<unknown>): unknown => {
    if (result.issues) throw result.issues.map(({ message }) => message).join('; ');
    return result.value;
  };
  const result = schema['~standard'].validate(data);
  return result instanceof Promise ? result.then(judge) : judge(result);
}
