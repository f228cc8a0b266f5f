-- Begin a new generation, as the store lacks steps; but only if the author knows the current generation.
if G == known then renew() end
