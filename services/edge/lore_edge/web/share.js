/** Whether the address of this page opens its answers for others. */

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

/**
 * Not from another device when it names this machine, and not for others where an answer belongs to
 * a key.
 */
export const canShare = ({ hostname }, wantsKey) => !wantsKey && !LOOPBACK.test(hostname);
