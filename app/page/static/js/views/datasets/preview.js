export function previewTab(){return null}
