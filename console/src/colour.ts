// A colour for each expert: the same one in every view, by the order in which experts were first seen.

/** As the classes c0, c1, ... of styles.css have them. */
export const HUES = [255, 45, 155, 330, 95, 200, 15, 290, 125, 225, 70, 175];
const order = new Map<string, number>();

export function colourOf(expert: string): number {
  let index = order.get(expert);
  if (index === undefined) {
    index = order.size % HUES.length;
    order.set(expert, index);
  }
  return index;
}
