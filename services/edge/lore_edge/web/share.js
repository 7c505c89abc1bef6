/** Whether others can open an answer by the address of this page. */

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

/**
 * They cannot if the address names this machine, or if answers belong to a key.
 */
export const canShare = ({ hostname }, wantsKey) => !wantsKey && !LOOPBACK.test(hostname);
