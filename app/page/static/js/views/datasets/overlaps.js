export function overlapsTab(){return null}
