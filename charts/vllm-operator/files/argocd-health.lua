-- Argo CD's health of a VLLMModel, from its conditions. Argo CD's Lua has no `string` and no `math` library.
local status = obj.status or {}
local seen = {}
for _, condition in ipairs(status.conditions or {}) do
  seen[condition.type] = condition
end

local function told(kind)
  local condition = seen[kind]
  if condition == nil then return "the operator has not seen this yet" end
  return (condition.reason or kind) .. ": " .. (condition.message or "")
end

local function holds(kind)
  return seen[kind] ~= nil and seen[kind].status == "True"
end

-- What was said of an older spec says nothing of the one in Git.
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "this change was not looked at yet" }
end
if holds("Stalled") then return { status = "Degraded", message = told("Stalled") } end
if holds("Reconciling") then return { status = "Progressing", message = told("Reconciling") } end
if holds("Ready") then return { status = "Healthy", message = told("Ready") } end
-- Neither stuck nor underway nor ready: no server is asked for.
if (obj.spec or {}).replicas == 0 then return { status = "Suspended", message = told("Ready") } end
return { status = "Progressing", message = told("Ready") }
