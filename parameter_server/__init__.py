"""The parameter server: what coordinator and workers share, and the pool that keeps them alive."""
