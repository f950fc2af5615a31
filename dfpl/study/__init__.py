"""Studies: many runs on a cluster. The only part of the library that knows Ray and Optuna."""
