"""Who carries a plan out? The worker: what it may do, how gently, and what it tells."""
