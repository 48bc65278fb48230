export const jobs = {
  async double(value) {
    return (await Promise.resolve(value)) * 2;
  },
  async follow(trail) {
    return `${trail} javascript`;
  },
  async refuse(why) {
    throw why;
  },
};
