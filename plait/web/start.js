// The pages of what this server asks people for.

const { pages } = await (await fetch("/healthz")).json();
await import(`/web/${pages}.js`);
