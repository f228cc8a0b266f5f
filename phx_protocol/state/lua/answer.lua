end
-- Around every script, behind it: the generation, and how many writes of the author there are now.
local answer = run()
if answer == nil then answer = false end  -- a nil would end the array
return {G, step, answer}
