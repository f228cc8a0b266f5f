end
-- The end of every script.
local answer = run()
if answer == nil then answer = false end  -- a nil would end the array
return {step, answer}
