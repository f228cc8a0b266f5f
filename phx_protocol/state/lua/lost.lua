-- The store lacks steps: a new generation begins, if it is still the one that the author knows.
if G == known then renew() end
