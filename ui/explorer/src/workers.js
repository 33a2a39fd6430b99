// Monaco asks for a worker by its language; all three are one script, which picks by its name.
globalThis.MonacoEnvironment = {
  getWorker: (_id, label) => new Worker(WORKER_URL, { name: label }),
};
