-- When the server's memory is full, functions that begin something are refused. Functions that
-- carry an accepted request to its end may exceed the server's limit by what they need (P17.8).
local function register(name, callback, flag)
  server.register_function{
    function_name = name, callback = callback, flags = flag and {flag} or {},
  }
end

register('lore_admit', lore_admit)
register('lore_settle', lore_settle, 'allow-oom')
register('lore_leave', lore_leave, 'allow-oom')
register('lore_open', lore_open)
register('lore_claim', lore_claim, 'allow-oom')
register('lore_append_all', lore_append_all, 'allow-oom')
register('lore_reinstate', lore_reinstate, 'allow-oom')
register('lore_revive', lore_revive)
register('lore_ack', lore_ack, 'allow-oom')
register('lore_readers', lore_readers, 'allow-oom')
register('lore_prompt', lore_prompt, 'allow-oom')
register('lore_finish', lore_finish, 'allow-oom')
register('lore_cancel', lore_cancel, 'allow-oom')
register('lore_forget', lore_forget, 'allow-oom')
register('lore_give_up', lore_give_up, 'allow-oom')
register('lore_reap', lore_reap, 'allow-oom')
register('lore_release', lore_release, 'allow-oom')
register('lore_renew', lore_renew, 'allow-oom')
register('lore_waiting', lore_waiting, 'allow-oom')
register('lore_meet', lore_meet, 'allow-oom')
